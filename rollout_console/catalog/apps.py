from django.apps import AppConfig


class CatalogConfig(AppConfig):
    name = "rollout_console.catalog"
    label = "catalog"
