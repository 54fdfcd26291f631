from django.apps import AppConfig


class PointsConfig(AppConfig):
    name = "signals.points"
    label = "points"
