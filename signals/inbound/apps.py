from django.apps import AppConfig


class InboundConfig(AppConfig):
    name = "signals.inbound"
    label = "inbound"
