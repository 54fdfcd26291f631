from django.apps import AppConfig


class PullsConfig(AppConfig):
    name = "signals.pulls"
    label = "pulls"
