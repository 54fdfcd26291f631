from celery import shared_task
from django.db import connection
from django.utils import timezone

from signals.pulls.services import pulls_run

LOCK_KEY = 0x70756C6C


@shared_task(name="pulls.run", acks_late=True, ignore_result=True, expires=5)
def run(**_: object) -> None:
    """Pull what is due; one at a time, so that slow servers never take every worker."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_lock(%s)", [LOCK_KEY])
        (mine,) = cursor.fetchone()
    if not mine:
        return
    try:
        pulls_run(now=timezone.now())
    finally:
        with connection.cursor() as cursor:
            cursor.execute("select pg_advisory_unlock(%s)", [LOCK_KEY])
