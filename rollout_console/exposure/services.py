from datetime import datetime
from typing import Final

from django.db import transaction

from rollout_console.core.canonical import digest
from rollout_console.core.nudge import channel_notify
from rollout_console.exposure import locks, selectors
from rollout_console.exposure.compile import compile_document, document_numbered
from rollout_console.exposure.history import workflows_touched
from rollout_console.exposure.models import ExposureVersion

CHANNEL: Final = "exposure"

current_number = selectors.current_number


@transaction.atomic
def version_publish(
    *, cause: str, actor_name: str, now: datetime, force: bool = False, workflow: str = ""
) -> ExposureVersion:
    """Compile what is exposed now and make it the version in force.

    `workflow` is the slug of the one whose cause this is: its readers see cause and actor.

    Where nothing changed, the current version is returned as it is, unless `force`d: a
    containment always gets a number of its own to be obeyed. Locks the head until the caller's
    transaction ends, so lock rollouts before.
    """
    head = locks.head()
    # Read under the lock: a change committed before we held it must be in this document.
    document = compile_document(selectors.exposure_state())
    content = digest(document)
    current = ExposureVersion.objects.filter(number=head.version).first()
    if current is not None and current.digest == content and not force:
        return current
    touched = workflows_touched(None if current is None else current.document, document)
    head.version += 1
    version = ExposureVersion.objects.create(
        number=head.version,
        document=document_numbered(document, head.version),
        digest=content,
        cause=cause[:200],
        actor=actor_name,
        at=now,
        workflow=workflow,
        workflows=sorted(touched | {workflow} - {""}),
    )
    head.save(update_fields=["version"])
    channel_notify(CHANNEL, str(head.version))
    return version
