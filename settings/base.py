"""What every deployment shares. What differs between deployments is read from the environment, by settings.env only."""

from nooble import embedded, logs, queues
from settings import env, services
from settings.variables import ROOT

ENV = env.load()

NOOBLE_DATA_DIR = ENV["NOOBLE_DATA_DIR"].resolve()
#: The engines that have no URL and so are started from wheels, see nooble.embedded.
EMBEDDED_ENGINES = frozenset(
    engine for engine, url in (("postgres", "DATABASE_URL"), ("redis", "REDIS_URL")) if not ENV[url]
)

# Applications

INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",  # before the admin, whose templates it replaces
    "unfold.contrib.filters",
    "nooble.admin_site.OperatorAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_results",
    "django_celery_beat",
    "apps.core",
    "apps.tenants",
    "apps.ledger",
    "apps.gateway",
    "apps.collections",
    "apps.agents",
    "nooble",
]
AUTH_USER_MODEL = "tenants.User"

# Web

SECRET_KEY = ENV["SECRET_KEY"]
SECRET_KEY_FALLBACKS = ENV["SECRET_KEY_FALLBACKS"]
ALLOWED_HOSTS = ENV["ALLOWED_HOSTS"]
CSRF_TRUSTED_ORIGINS = ENV["CSRF_TRUSTED_ORIGINS"]
WEB_HOST = ENV["WEB_HOST"]
WEB_PORT = ENV["WEB_PORT"]

ROOT_URLCONF = "nooble.urls"
ASGI_APPLICATION = "nooble.asgi.application"
WSGI_APPLICATION = "nooble.wsgi.application"
MIDDLEWARE = [
    "nooble.middleware.request_id",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"

# API

REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "apps.core.api.schema.Schema",
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "apps.tenants.authentication.ApiKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["apps.tenants.permissions.HasScope"],
    "DEFAULT_THROTTLE_CLASSES": ["apps.tenants.throttling.TenantThrottle"],
    "DEFAULT_PAGINATION_CLASS": "apps.core.api.pagination.CursorPagination",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["apps.core.api.parsers.JSONParser"],
    "EXCEPTION_HANDLER": "apps.core.api.exceptions.handle",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "nooble",
    "DESCRIPTION": (
        "RAG agents for every tenant, and every token billed exactly once.\n\n"
        "Times are UTC in ISO 8601, ids are UUIDs, money is a decimal string in USD. A list comes in pages, newest "
        "first unless it says otherwise; `next` and `previous` are the addresses of the neighbouring pages.\n\n"
        "What does not succeed is answered with a problem document (RFC 9457) whose `code` is stable. Beside those "
        "that an operation lists: 405 `method_not_allowed`, 406 `not_acceptable` and 500 `internal_error`.\n\n"
        "Every POST takes an `Idempotency-Key`: sent again with the same body, it does not happen again."
    ),
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "TAGS": [
        {"name": "Agents", "description": "Agents, questions to them, and what was said."},
        {"name": "Collections", "description": "Documents, and the search in them."},
        {"name": "Ledger", "description": "What was used, entry by entry and in sums, and what may still be used."},
        {"name": "Tenants", "description": "The tenant's own API keys and members."},
    ],
    # A session names no tenant, so it opens nothing here.
    "AUTHENTICATION_WHITELIST": ["apps.tenants.authentication.ApiKeyAuthentication"],
    # A change's fields are optional where its serializer says so, and nowhere else.
    "COMPONENT_SPLIT_PATCH": False,
    "ENUM_ADD_EXPLICIT_BLANK_NULL_CHOICE": False,
    "ENUM_NAME_OVERRIDES": {
        "Author": "apps.agents.types.Author",
        "CollectionStatus": ["empty", "working", "ready"],
        "DocumentStatus": "apps.collections.types.DocumentStatus",
        "EntryKind": "apps.ledger.types.EntryKind",
        "EventOutcome": ["created", "duplicate", "conflict", "invalid"],
        "Granularity": ["day", "month"],
        "MemberRole": "apps.tenants.types.MemberRole",
        "OperationKind": "apps.ledger.types.OperationKind",
        "RunStatus": "apps.agents.types.RunStatus",
        "Scope": "apps.tenants.types.Scope",
        "SearchMode": ["hybrid", "vector", "lexical"],
        "TokenSource": "apps.ledger.types.TokenSource",
        "TokenType": "apps.ledger.types.TokenType",
        "TruncationStrategy": ["end", "start", "middle"],
        "UsageGroup": ["provider", "model", "agent", "collection", "operation", "token_type", "consumer"],
    },
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}
UNFOLD = {
    "SITE_TITLE": "nooble",
    "SITE_HEADER": "nooble",
    "SITE_SYMBOL": "receipt_long",
    "SIDEBAR": {"navigation": "nooble.navigation.sidebar"},
}
#: Precedes an error's code in the ``type`` of problem documents.
ERROR_TYPE_BASE = "/errors"

# Database: the application's role, and the owner's for migrations

_application_url = ENV["DATABASE_URL"] or embedded.database_url(NOOBLE_DATA_DIR)
_owner_url = ENV["DATABASE_OWNER_URL"] or ENV["DATABASE_URL"] or embedded.owner_url(NOOBLE_DATA_DIR)
DATABASES = {
    "default": services.database(_application_url, pool_size=ENV["DATABASE_POOL_SIZE"]),
    "owner": services.database(_owner_url),
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Redis, and the tasks that are woken up through it

REDIS_URL = ENV["REDIS_URL"] or embedded.redis_url(NOOBLE_DATA_DIR)
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "nooble-cache",
        # What is remembered saves a query: it is not worth waiting for.
        "OPTIONS": {
            "serializer": "apps.core.caching.JSONSerializer",
            "socket_connect_timeout": 0.5,
            "socket_timeout": 0.5,
        },
    }
}

CELERY_BROKER_URL = ENV["BROKER_URL"] or services.broker(REDIS_URL)
# Times, in seconds: HTTP deadline 60 < soft limit < hard limit < visibility timeout. A task that outlasted the last
# would be delivered a second time while it runs.
CELERY_TASK_SOFT_TIME_LIMIT = 150
CELERY_TASK_TIME_LIMIT = 180
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 900,
    # What a dead worker had taken goes back to its queue within seconds, not after the default's 100.
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "global_keyprefix": "nooble:",
    "queue_order_strategy": "nooble.turns:ByTier",
    # Without them a half-open connection hangs a worker for minutes.
    "socket_connect_timeout": 5,
    "socket_timeout": 15,
    "socket_keepalive": True,
    "health_check_interval": 10,
    # No `retry_on_timeout`: it makes redis-py open a broken connection anew and wait on it for ever, in the thread that
    # everything else of the worker waits for. Without it the consumer starts anew, which takes less than a second.
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# Small, so that a request never hangs on a dead broker: the sweeper publishes what was not.
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 2, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.2}
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_RESULT_BACKEND = "nooble.results.ResultBackend"  # shows what ran; never a source of truth
CELERY_RESULT_EXTENDED = True
CELERY_TASK_QUEUES = queues.declared()
CELERY_TASK_DEFAULT_QUEUE = queues.MAINTENANCE
CELERY_TASK_CREATE_MISSING_QUEUES = False
CELERY_TASK_ACKS_LATE = True
# A task that kills its worker would be delivered again at once, and for ever. The sweeper drives it again, and counts.
CELERY_TASK_REJECT_ON_WORKER_LOST = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# A broker that is away for a moment must not kill a call that is paid for.
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 30
CELERY_WORKER_ENABLE_SOFT_SHUTDOWN_ON_IDLE = True
CELERY_WORKER_MAX_TASKS_PER_CHILD = 200
CELERY_WORKER_MAX_MEMORY_PER_CHILD = 1024 * 1024  # KiB
CELERY_WORKER_ETA_TASK_LIMIT = 200
CELERY_WORKER_REDIRECT_STDOUTS = False
CELERY_TIMEZONE = TIME_ZONE
CELERY_BEAT_SCHEDULER = "nooble.beat:Scheduler"

# Files

MEDIA_ROOT = ENV["MEDIA_ROOT"] or NOOBLE_DATA_DIR / "media"
MAX_UPLOAD_BYTES = ENV["MAX_UPLOAD_BYTES"]
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_UPLOAD_BYTES
STATIC_URL = "static/"
STATIC_ROOT = ROOT / "staticfiles"
STORAGES = {
    "default": {"BACKEND": ENV["STORAGE_BACKEND"], "OPTIONS": ENV["STORAGE_OPTIONS"]},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

# Providers, and what a new agent or collection uses

NOOBLE_PROVIDERS = {
    "local": {},
    "openai": {"api_key": ENV["OPENAI_API_KEY"], "base_url": ENV["OPENAI_BASE_URL"]},
    "groq": {"api_key": ENV["GROQ_API_KEY"], "base_url": ENV["GROQ_BASE_URL"]},
    "anthropic": {"api_key": ENV["ANTHROPIC_API_KEY"], "base_url": ENV["ANTHROPIC_BASE_URL"]},
    "cohere": {"api_key": ENV["COHERE_API_KEY"], "base_url": ENV["COHERE_BASE_URL"]},
    "mistral": {"api_key": ENV["MISTRAL_API_KEY"], "base_url": ENV["MISTRAL_BASE_URL"]},
    "ollama": {
        "api_key": ENV["OLLAMA_API_KEY"],
        "base_url": ENV["OLLAMA_BASE_URL"],
        "context_window": ENV["OLLAMA_CONTEXT_LENGTH"],
    },
    "azure_openai": {
        "api_key": ENV["AZURE_OPENAI_API_KEY"],
        "base_url": ENV["AZURE_OPENAI_ENDPOINT"],
        "models": ENV["AZURE_OPENAI_DEPLOYMENTS"],
    },
}
CREDENTIAL_KEYS = ENV["CREDENTIAL_KEYS"]
ALLOW_PRIVATE_PROVIDER_URLS = ENV["ALLOW_PRIVATE_PROVIDER_URLS"]
PROVIDER_CIRCUIT_FAILURES = ENV["PROVIDER_CIRCUIT_FAILURES"]
PROVIDER_CIRCUIT_SECONDS = ENV["PROVIDER_CIRCUIT_SECONDS"]
#: The deployment's values of the settings of apps.core.configuration.
WORK_SETTINGS = ENV["WORK_SETTINGS_FILE"]
DEFAULT_CHAT_PROVIDER = ENV["DEFAULT_CHAT_PROVIDER"] or WORK_SETTINGS.get("llm_config.provider", "local")
DEFAULT_CHAT_MODEL = ENV["DEFAULT_CHAT_MODEL"] or WORK_SETTINGS.get("llm_config.model", "extractive")
DEFAULT_EMBEDDING_PROVIDER = ENV["DEFAULT_EMBEDDING_PROVIDER"] or WORK_SETTINGS.get(
    "embedding_config.provider", "local"
)
DEFAULT_EMBEDDING_MODEL = ENV["DEFAULT_EMBEDDING_MODEL"] or WORK_SETTINGS.get("embedding_config.model", "wordllama-256")
DEFAULT_EMBEDDING_DIMENSIONS = ENV["DEFAULT_EMBEDDING_DIMENSIONS"] or WORK_SETTINGS.get(
    "embedding_config.dimensions", 256
)

# The ledger

UNKNOWN_GRACE_SECONDS = ENV["UNKNOWN_GRACE_SECONDS"]
SPOOL_DIR = ENV["SPOOL_DIR"] or NOOBLE_DATA_DIR / "spool"
SPOOL_AFTER_SECONDS = ENV["SPOOL_AFTER_SECONDS"]

# Logs and metrics

METRICS_TOKEN = ENV["METRICS_TOKEN"]
LOGGING = logs.configuration(level=ENV["LOG_LEVEL"], form=ENV["LOG_FORMAT"] or "console")
