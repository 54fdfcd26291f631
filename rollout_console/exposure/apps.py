from django.apps import AppConfig


class ExposureConfig(AppConfig):
    name = "rollout_console.exposure"
    label = "exposure"
