from django.apps import AppConfig


class IngestConfig(AppConfig):
    name = "signals.ingest"
    label = "ingest"
