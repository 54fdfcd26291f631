"""The Celery application and what beat sends. Tasks are doors; rows and the keeper guarantee."""

import os
from typing import Any, Final

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rollout_console.settings.dev")

# Task name and how often, in seconds. Each only hastens what the keeper does when overdue.
BEAT_SCHEDULE: Final[dict[str, dict[str, Any]]] = {
    "tick": {"task": "console.tick", "schedule": 1.0, "options": {"expires": 5}},
    "deliveries": {"task": "deliveries.send", "schedule": 1.0, "options": {"expires": 5}},
    "pulls": {"task": "pulls.run", "schedule": 5.0, "options": {"expires": 5}},
}

app = Celery("rollout_console")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.beat_schedule = BEAT_SCHEDULE
app.autodiscover_tasks()
