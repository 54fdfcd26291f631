from django.apps import AppConfig


class ReplayConfig(AppConfig):
    name = "rollout_console.replay"
    label = "replay"
