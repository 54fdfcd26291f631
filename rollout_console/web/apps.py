from django.apps import AppConfig


class WebConfig(AppConfig):
    name = "rollout_console.web"
    label = "web"
