"""One attempt to deliver a mail. No database here."""

import smtplib

from django.core.mail import EmailMessage

from rollout_console.notifications.outcome import Outcome
from rollout_console.notifications.words import Message


def mail_send(*, to: str, message: Message, message_id: str) -> Outcome:
    """Send a mail to one person; `message_id` is the same for every attempt."""
    mail = EmailMessage(
        subject=" ".join(message.title.split()),
        body=message.text,
        to=[to],
        headers={
            "Message-ID": f"<{message_id}@rollout-console>",
            "Auto-Submitted": "auto-generated",
        },
    )
    try:
        mail.send()
    except smtplib.SMTPRecipientsRefused:
        return Outcome("The mail server refuses this recipient.")
    except smtplib.SMTPResponseException as error:
        return Outcome(f"The mail server answers {error.smtp_code}.")
    except (smtplib.SMTPException, OSError, ValueError) as error:
        return Outcome(f"The mail server cannot be used: {str(error)[:200] or 'no reason given'}.")
    return Outcome()
