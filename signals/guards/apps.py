from django.apps import AppConfig


class GuardsConfig(AppConfig):
    name = "signals.guards"
    label = "guards"
