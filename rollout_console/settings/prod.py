"""A deployment: every value without a safe default has to be given, or the start ends here."""

import os

# Unless told otherwise; read by `base`, so set before it is.
os.environ.setdefault("HTTPS", "true")
os.environ.setdefault("LOG_JSON", "true")

from rollout_console.settings.base import *  # noqa: F403
from rollout_console.settings.base import env

SECRET_KEY = env.str("SECRET_KEY")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS")
for _name in ("DATABASE_URL", "REDIS_URL", "CONSOLE_URL"):
    env.str(_name)
