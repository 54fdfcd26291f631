from celery import shared_task
from django.db import connection
from django.utils import timezone

from rollout_console.notifications.deliver import deliveries_send
from rollout_console.notifications.fan_out import outbox_fan_out

LOCK_KEY = 0x64656C76


@shared_task(name="deliveries.send", acks_late=True, ignore_result=True, expires=5)
def send(**_: object) -> None:
    """Hand on the outbox and send what is due; one at a time, so that receivers never take all."""
    now = timezone.now()
    outbox_fan_out(now=now)
    with connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_lock(%s)", [LOCK_KEY])
        (mine,) = cursor.fetchone()
    if not mine:
        return
    try:
        deliveries_send(now=now)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("select pg_advisory_unlock(%s)", [LOCK_KEY])
