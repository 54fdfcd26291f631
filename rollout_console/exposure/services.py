from datetime import datetime
from typing import Final

from django.db import transaction

from rollout_console.core.canonical import digest
from rollout_console.core.nudge import channel_notify
from rollout_console.exposure import locks, selectors
from rollout_console.exposure.compile import compile_document, document_numbered
from rollout_console.exposure.models import ExposureVersion

CHANNEL: Final = "exposure"

current_number = selectors.current_number


@transaction.atomic
def version_publish(
    *, cause: str, actor_name: str, now: datetime, force: bool = False
) -> ExposureVersion:
    """Compile what is exposed now and make it the version in force.

    Where nothing changed, the current version is returned as it is, unless `force`d: a
    containment always gets a number of its own to be obeyed. Locks the head until the caller's
    transaction ends, so lock rollouts before.
    """
    head = locks.head()
    # Read under the lock: a change committed before we held it must be in this document.
    document = compile_document(selectors.exposure_state())
    content = digest(document)
    if not force:
        current = ExposureVersion.objects.filter(number=head.version, digest=content).first()
        if current is not None:
            return current
    head.version += 1
    version = ExposureVersion.objects.create(
        number=head.version,
        document=document_numbered(document, head.version),
        digest=content,
        cause=cause[:200],
        actor=actor_name,
        at=now,
    )
    head.save(update_fields=["version"])
    channel_notify(CHANNEL, str(head.version))
    return version
