"""What granian serves: bare handlers in front, Django behind."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rollout_console.settings.dev")

# First: it sets Django up, which the handlers' imports need.
django_application = get_wsgi_application()

from rollout_console.api.bare.front import Front  # noqa: E402
from rollout_console.api.bare.routes import ROUTES  # noqa: E402
from rollout_console.exposure.store import store  # noqa: E402

application = Front(ROUTES, django_application, start=store.start)
