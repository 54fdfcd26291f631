"""What is sent of an event: the webhook's body, and the message for people."""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.urls import reverse

from rollout_console.catalog.models import Workflow
from rollout_console.core.canonical import canonical_json
from rollout_console.core.models import OutboxEvent
from rollout_console.notifications.words import Message, message_of


def event_id(event: OutboxEvent) -> str:
    """Return the event's id for receivers: the same for every attempt, replay and subscription.

    With its time, since a database put back from a backup counts on from an older number.
    """
    return f"evt_{event.pk}_{int(event.created_at.timestamp() * 1_000_000):x}"


def event_body(event: OutboxEvent) -> bytes:
    """Return the webhook's body, `{type, timestamp, data}`; the same for every attempt."""
    data = {"workflow": event.workflow, "rollout": None, **event.data, "url": event_url(event)}
    return canonical_json(
        {"type": event.type, "timestamp": event.created_at.isoformat(), "data": data}
    )


def event_message(event: OutboxEvent, *, now: datetime) -> Message:
    """Return the event as a message for people; asks for the workflow's name and owner."""
    workflow = (
        Workflow.objects.filter(slug=event.workflow).select_related("owner", "deputy").first()
    )
    answers = ""
    if workflow is not None:
        answers = f"{workflow.owner.shown_name}, else {workflow.deputy.shown_name}"
    return message_of(
        event.type,
        event.data,
        workflow="" if workflow is None else workflow.name,
        answers=answers,
        url=event_url(event),
        now=now,
    )


def event_url(event: OutboxEvent) -> str:
    """Return the address of the page that an event is about, "" where CONSOLE_URL is not set."""
    if not settings.CONSOLE_URL:
        return ""
    return str(settings.CONSOLE_URL).rstrip("/") + _page(event.type, event.workflow, event.data)


def _page(type_: str, workflow: str, data: dict[str, Any]) -> str:
    if isinstance(data.get("alert"), int):
        return reverse("web:alert", args=[data["alert"]])
    if type_.startswith("expansion.") and isinstance(data.get("request"), int):
        return reverse("web:expansion", args=[data["request"]])
    if isinstance(data.get("change"), int) and workflow:
        return reverse("web:plan_change", args=[workflow, data["change"]])
    if isinstance(data.get("rollout"), str):
        return reverse("web:rollout", args=[data["rollout"]])
    return reverse("web:workflow", args=[workflow]) if workflow else reverse("web:overview")
