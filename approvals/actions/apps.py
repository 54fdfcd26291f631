from django.apps import AppConfig


class ActionsConfig(AppConfig):
    name = "approvals.actions"
    label = "actions"
