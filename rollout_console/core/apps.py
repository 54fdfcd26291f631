from django.apps import AppConfig


class CoreConfig(AppConfig):
    name = "rollout_console.core"
    label = "core"
