"""What every way of running shares. The environment is read in this package and nowhere else.

`docs/settings.md` describes every variable.
"""

from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from rollout_console.services import attach, roles
from rollout_console.settings.logs import logging_config

env = environ.Env()

BASE_DIR = Path(__file__).resolve().parent.parent.parent
LOCAL_DIR = Path(env.str("LOCAL_DIR", default="") or BASE_DIR / ".local").resolve()

DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]", *env.list("ALLOWED_HOSTS", default=[])]
ROOT_URLCONF = "rollout_console.urls"
WSGI_APPLICATION = "rollout_console.wsgi.application"
AUTH_USER_MODEL = "catalog.Person"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# A step of the plan editor posts each of its rows' fields: 200 triggers are some 4,000, and a
# plan's file of 1 MiB is up to three times that as a form sends it.
DATA_UPLOAD_MAX_NUMBER_FIELDS = 20_000
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024 * 1024
LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/login/"
LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

INSTALLED_APPS = [
    # Before staticfiles' own, so that `manage.py migrate` and the like are ours.
    "rollout_console.core",
    "rollout_console.audit",
    "rollout_console.catalog",
    "approvals.authority",
    "signals.ingest",
    "signals.buckets",
    "signals.health",
    "signals.own",
    "signals.outside",
    "signals.points",
    "signals.otlp",
    "signals.pulls",
    "signals.guards",
    "signals.inbound",
    "signals.alerts",
    "rollout_console.rollouts",
    "rollout_console.exposure",
    "rollout_console.containment",
    "approvals.expansions",
    "approvals.actions",
    "rollout_console.replay",
    "rollout_console.notifications",
    "rollout_console.web",
    "rollout_console.api",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django_htmx",
    "template_partials.apps.SimpleAppConfig",
    "csp",
    "rest_framework",
    "drf_spectacular",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "OPTIONS": {
            "builtins": ["template_partials.templatetags.partials"],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "loaders": [
                (
                    "template_partials.loader.Loader",
                    [
                        (
                            "django.template.loaders.cached.Loader",
                            [
                                "django.template.loaders.filesystem.Loader",
                                "django.template.loaders.app_directories.Loader",
                            ],
                        )
                    ],
                )
            ],
        },
    }
]

# --- Postgres and Valkey: the URLs given, or those of the stack that runs in this checkout ---

_stack = attach.stack_described(LOCAL_DIR)
DATABASE_URL = env.str("DATABASE_URL", default="")
EMBEDDED_POSTGRES = not DATABASE_URL
if EMBEDDED_POSTGRES:
    DATABASE_URL = _stack.get("database_url", "")
    DATABASE_APP_URL = _stack.get("database_app_url") or ""
else:
    DATABASE_APP_URL = env.str("DATABASE_APP_URL", default="")
REDIS_URL_GIVEN = env.str("REDIS_URL", default="")
REDIS_URL = REDIS_URL_GIVEN or _stack.get("redis_url", "redis://127.0.0.1:1/0")

DATABASE_OWNER = roles.owner_settings(DATABASE_URL or "postgres:///rollout_console")
DATABASE_APP_ROLE = roles.app_role(DATABASE_APP_URL)
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        **roles.database_settings(DATABASE_URL or "postgres:///rollout_console", DATABASE_APP_URL),
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
    }
}
if EMBEDDED_POSTGRES:
    DATABASES["default"] |= {
        "ENGINE": "rollout_console.services.backend",
        "LOCAL_DIR": str(LOCAL_DIR),
    }
DATABASES["default"].setdefault("OPTIONS", {}).setdefault("connect_timeout", 5)

# --- Sessions and security: a session needs Postgres alone, so that containment does too ---

SESSION_ENGINE = "django.contrib.sessions.backends.db"
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = True
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
HTTPS = env.bool("HTTPS", default=False)
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# Hashes of the style sheets that Plotly injects and we allow: its map sheet.
PLOTLY_STYLE_HASHES = ["sha256-ji27qzEtxXZW+7dun6UwjHXJ18e6WAin1VvNtkzIE/o="]
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'", *(f"'{value}'" for value in PLOTLY_STYLE_HASHES)],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
    )
]

# --- Static files ---

STATIC_URL = "/static/"
STATIC_ROOT = LOCAL_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATICFILES_FINDERS = [
    "django.contrib.staticfiles.finders.FileSystemFinder",
    "django.contrib.staticfiles.finders.AppDirectoriesFinder",
    "rollout_console.services.static.PlotlyBundleFinder",
]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "rollout_console.services.static.StaticStorage"},
}
WHITENOISE_KEEP_ONLY_HASHED_FILES = True

# --- The control API ---

REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "UNICODE_JSON": True,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Rollout Console",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "rollout_console.api.openapi.bare_routes_add",
    ],
}

# --- Celery: a hint that work waits. Whatever it loses, rows and the keeper still have ---

CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TASK_PUBLISH_RETRY = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# A dead broker must cost a caller next to nothing.
CELERY_BROKER_CONNECTION_TIMEOUT = 0.2
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_connect_timeout": 0.2,
    "socket_timeout": 1.0,
    "visibility_timeout": 60,
    "max_retries": 0,
}
CELERY_BEAT_SCHEDULER = "redbeat.RedBeatScheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 2
CELERY_REDBEAT_REDIS_URL = REDIS_URL
CELERY_REDBEAT_LOCK_TIMEOUT = 10

# --- Ingest: packed bytes of accepted runs that may wait to be drained; beyond it, 429 ---

INGEST_BACKLOG_BYTES = env.int("INGEST_BACKLOG_BYTES", default=1_073_741_824)

# --- OTLP, in seconds: how long a trace is quiet before runs are made of it, how long after its
# first span at the most, and how long the parent of its topmost span is waited for ---

OTLP_SETTLE_S = env.int("OTLP_SETTLE_S", default=5)
OTLP_SETTLE_MAX_S = env.int("OTLP_SETTLE_MAX_S", default=300)
OTLP_ORPHAN_S = env.int("OTLP_ORPHAN_S", default=30)

# --- Retention, in days; docs/storage.md says what goes with what ---


def _days(name: str, *, default: int, least: int) -> int:
    days: int = env.int(name, default=default)
    if days < least:
        raise ImproperlyConfigured(f"{name} is at least {least} days; it is {days}.")
    return days


# Live runs are up to seven days old and labels come up to eight days after them.
RUN_DAYS_KEPT = _days("RUN_DAYS_KEPT", default=30, least=9)
MINUTE_DAYS_KEPT = _days("MINUTE_DAYS_KEPT", default=40, least=9)
LEDGER_DAYS_KEPT = _days("LEDGER_DAYS_KEPT", default=400, least=MINUTE_DAYS_KEPT)
POINT_DAYS_KEPT = _days("POINT_DAYS_KEPT", default=400, least=9)
# A delivery is tried for a day, and replayed by hand after that.
DELIVERY_DAYS_KEPT = _days("DELIVERY_DAYS_KEPT", default=90, least=2)

# --- Expansions: how long a request can be approved and started, in seconds ---

EXPANSION_VALID_S = env.int("EXPANSION_VALID_S", default=86_400)

# --- Actions: how long a request that needs a person waits before it counts as denied ---

ACTION_VALID_S = env.int("ACTION_VALID_S", default=900)

# --- The watch: what a round does after containment, by dotted name, in this order ---

WATCH_STEPS = [
    "approvals.expansions.lapses.expansions_sweep",
    "signals.pulls.watch.pulls_overdue",
    "rollout_console.notifications.watch.deliveries_overdue",
    "rollout_console.notifications.retention.deliveries_prune",
]

# --- Pulls: hosts that may be asked (none named: any), and the secrets they want, by name ---

PULL_HOSTS = env.list("PULL_HOSTS", default=[])


def _credentials() -> dict[str, dict[str, str]]:
    words = 'PULL_CREDENTIALS is JSON, such as {"main": {"url": "https://…", "bearer": "…"}}.'
    try:
        told = env.json("PULL_CREDENTIALS", default={})
    except ValueError:
        # Without its own text, which would hold the secrets.
        raise ImproperlyConfigured(words) from None
    if not isinstance(told, dict) or not all(
        isinstance(each, dict)
        and "url" in each
        and ("bearer" in each or "username" in each)
        and all(isinstance(value, str) for value in each.values())
        for each in told.values()
    ):
        raise ImproperlyConfigured(words)
    return told


PULL_CREDENTIALS = _credentials()

# --- Notifications: the mail server (none: nobody gets mail), and where deliveries may go ---

EMAIL_URL = env.str("EMAIL_URL", default="")
EMAIL_ON = bool(EMAIL_URL)
if EMAIL_ON:
    try:
        vars().update(env.email_url("EMAIL_URL"))
    except (KeyError, ValueError):
        # Without its own text, which would hold the password.
        raise ImproperlyConfigured(
            "EMAIL_URL is an address such as smtp+tls://user:password@mail.example:587."
        ) from None
EMAIL_TIMEOUT = 5
DEFAULT_FROM_EMAIL = env.str("EMAIL_FROM", default="") or "Rollout Console <console@localhost>"
NOTIFY_HOSTS = env.list("NOTIFY_HOSTS", default=[])
NOTIFY_LOOPBACK = env.bool("NOTIFY_LOOPBACK", default=False)

# --- Where the console is reached, for links in messages ---

CONSOLE_URL = env.str("CONSOLE_URL", default="") or _stack.get("console_url", "")
# The web port, used exactly; without one, 8000 or the next free one.
PORT = env.int("PORT", default=None)
# Set by `manage.py up --demo`: /readyz then waits for a file that says the demo is there.
DEMO = env.bool("DEMO", default=False)
DEMO_READY_FILE = LOCAL_DIR / "demo-ready" if DEMO else None
# What the demo plays; `docs/demo.md` has the scenarios. Fast is for tests: windows of seconds.
DEMO_SCENARIO = env.str("DEMO_SCENARIO", default="")
DEMO_ONSET_S = env.float("DEMO_ONSET_S", default=120.0)
DEMO_SPEED = env.float("DEMO_SPEED", default=1.0)
DEMO_FAST = env.bool("DEMO_FAST", default=False)

LOGGING_CONFIG = None
logging_config(json_lines=env.bool("LOG_JSON", default=False), level=env.str("LOG_LEVEL", "INFO"))
