from django.apps import AppConfig


class AlertsConfig(AppConfig):
    name = "signals.alerts"
    label = "alerts"
