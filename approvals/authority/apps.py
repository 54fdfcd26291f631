from django.apps import AppConfig


class AuthorityConfig(AppConfig):
    name = "approvals.authority"
    label = "authority"
