from django.apps import AppConfig


class ContainmentConfig(AppConfig):
    name = "rollout_console.containment"
    label = "containment"
