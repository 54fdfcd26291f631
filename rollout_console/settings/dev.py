"""One machine: what `make run` and `manage.py up` use."""

from rollout_console.services.place import secret
from rollout_console.settings.base import *  # noqa: F403
from rollout_console.settings.base import LOCAL_DIR, env

SECRET_KEY = env.str("SECRET_KEY", default="") or secret(LOCAL_DIR, "secret_key")
