from django.apps import AppConfig


class OtlpConfig(AppConfig):
    name = "signals.otlp"
    label = "otlp"
