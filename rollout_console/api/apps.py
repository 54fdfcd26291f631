from django.apps import AppConfig


class ApiConfig(AppConfig):
    name = "rollout_console.api"
    label = "api"
