from django.apps import AppConfig


class BucketsConfig(AppConfig):
    name = "signals.buckets"
    label = "buckets"
