from django.apps import AppConfig


class ExpansionsConfig(AppConfig):
    name = "approvals.expansions"
    label = "expansions"
