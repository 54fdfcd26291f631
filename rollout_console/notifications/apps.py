from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    name = "rollout_console.notifications"
    label = "notifications"
