from django.apps import AppConfig


class OutsideConfig(AppConfig):
    name = "signals.outside"
    label = "outside"
