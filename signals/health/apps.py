from django.apps import AppConfig


class HealthConfig(AppConfig):
    name = "signals.health"
    label = "health"
