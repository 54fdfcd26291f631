from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "rollout_console.audit"
    label = "audit"
