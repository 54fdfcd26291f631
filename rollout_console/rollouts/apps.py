from django.apps import AppConfig


class RolloutsConfig(AppConfig):
    name = "rollout_console.rollouts"
    label = "rollouts"
