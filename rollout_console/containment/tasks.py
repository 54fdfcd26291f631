from celery import shared_task

from rollout_console.containment.work import work_once
from rollout_console.core.heartbeats import WORKER


@shared_task(name="console.work", acks_late=True, ignore_result=True)
def work(**_: object) -> None:
    """Do what has just arrived; nudged after each accepted batch."""
    work_once(name=WORKER, periodic=False)


@shared_task(name="console.tick", acks_late=True, ignore_result=True, expires=5)
def tick(**_: object) -> None:
    """Do one whole round; beat sends it each second."""
    work_once(name=WORKER, periodic=True)
