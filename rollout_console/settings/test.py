"""Tests: the real servers, quick passwords, static files as they are."""

from rollout_console.settings.base import *  # noqa: F403

SECRET_KEY = "only-for-tests"  # noqa: S105  # signs nothing outside a test run
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = True
# Receivers of tests listen on loopback; mails are kept in memory by pytest-django.
NOTIFY_LOOPBACK = True
EMAIL_ON = True
