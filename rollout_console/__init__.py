"""Rollout Console: exposure, containment and the wiring around them."""

from rollout_console.celery import app as celery_app

__all__ = ["celery_app"]
