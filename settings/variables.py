"""Every environment variable nooble reads: what it means, what it may be, and where it must be set.

``docs/configuration.md`` is generated from :data:`VARIABLES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from environs import ValidationError, validate

from apps.core.secrets import KEY

ROOT = Path(__file__).resolve().parent.parent

PRODUCTION = frozenset({"prod"})
_HTTP_URL = validate.URL(schemes={"http", "https"}, require_tld=False)
_ORIGIN = validate.Regexp(r"https?://[^/\s]+\Z", error="Not an origin: scheme and host, such as https://example.com.")
#: As Django reads them: a name, ``.example.com`` with all below it, an IPv6 address in brackets, ``*``.
_HOST = validate.Regexp(
    r"(\.?[\w-]+(\.[\w-]+)*\.?|\[[0-9A-Fa-f:.]+\]|\*)\Z",
    error="Not host names: they have no scheme, port or path, and none may be empty.",
)
_KEY = validate.Regexp(KEY, error="Not a key: it holds spaces or characters that no key has.")
_YEAR = 366 * 24 * 3600


def _each(check: Callable[[str], object]) -> Callable[[list[str]], None]:
    """A check of every item of a list."""

    def check_all(values: list[str]) -> None:
        for value in values:
            check(value)

    return check_all


def _secret(value: str) -> None:
    """What signs: Django's own measure of it, which is otherwise asked for by ``check --deploy`` only."""
    if len(value) < 50 or len(set(value)) < 5:
        raise ValidationError("Too weak: a secret key has at least 50 random characters.")


def _directory(value: Path) -> None:
    """It need not be there: it is made. Where a file is in the way it cannot be."""
    try:
        nearest = next(path for path in (value, *value.absolute().parents) if path.exists())
    except OSError as error:
        raise ValidationError(f"Cannot be reached: {error.strerror}.") from error
    if not nearest.is_dir():
        raise ValidationError("Not a directory, and none can be made there: a file is in the way.")


def _groq_url(value: str) -> None:
    _HTTP_URL(value)
    # The adapter takes the whole path off; another one would be put before it.
    if value.rstrip("/").endswith("/v1") and not value.rstrip("/").endswith("/openai/v1"):
        raise ValidationError("Must not end in /v1: the SDK adds the path.")


def _azure_url(value: str) -> None:
    _HTTP_URL(value)
    if "/deployments/" in value or "?" in value:
        raise ValidationError("Not the address of a resource: it names a deployment or a version of the interface.")


@dataclass(frozen=True, kw_only=True)
class Variable:
    """One environment variable. An empty value counts as not set."""

    name: str
    section: str
    help: str
    example: str
    #: The name of the environs method that reads it, and what that method is given besides the name.
    kind: str = "str"
    options: Mapping[str, Any] = field(default_factory=dict)
    default: Any = None
    #: What the documentation says of a default that is not a plain value.
    default_text: str = ""
    #: The settings modules (``prod`` for ``settings.prod``) that refuse to start without it.
    required_in: frozenset[str] = frozenset()


def _key(name: str, provider: str, *, example: str) -> Variable:
    """The variable of a provider's key."""
    text = (
        f"The deployment's own key for {provider}. Without it only tenants with a key of their own have the provider."
    )
    return Variable(name=name, section="Providers", help=text, example=example, options={"validate": _KEY}, default="")


def _base_url(name: str, provider: str, *, example: str, meaning: str = "", check: Any = _HTTP_URL) -> Variable:
    """The variable of a provider's address, which is another service's if it is set."""
    return Variable(
        name=name,
        section="Providers",
        help=meaning or f"Another service that speaks {provider}'s protocol.",
        example=example,
        options={"validate": check},
        default_text=f"{provider}'s own",
    )


VARIABLES = (
    Variable(
        name="SECRET_KEY",
        section="Web",
        help="Signs sessions and the contexts that tasks carry: at least 50 random characters.",
        example='"$(openssl rand -base64 48)"',
        options={"validate": _secret},
        default="development-only-0123456789-abcdefghijklmnopqrstuvwxyz",
        default_text="a key for development",
        required_in=PRODUCTION,
    ),
    Variable(
        name="SECRET_KEY_FALLBACKS",
        section="Web",
        help="Earlier secret keys, comma-separated, whose signatures are still accepted while a key is rotated.",
        example="the-key-before-this-one-of-at-least-50-characters-0123456789",
        kind="list",
        options={"subcast": str.strip, "validate": _each(_secret)},
        default=[],
    ),
    Variable(
        name="ALLOWED_HOSTS",
        section="Web",
        help="The host names that the site is served under, comma-separated.",
        example="api.example.com,admin.example.com",
        kind="list",
        options={"subcast": str.strip, "validate": [validate.Length(min=1), _each(_HOST)]},
        default=["localhost", "127.0.0.1", "[::1]"],
        required_in=PRODUCTION,
    ),
    Variable(
        name="CSRF_TRUSTED_ORIGINS",
        section="Web",
        help="Other origins, scheme included, whose pages may post to the admin, comma-separated.",
        example="https://admin.example.com",
        kind="list",
        options={"subcast": str.strip, "validate": _each(_ORIGIN)},
        default=[],
    ),
    Variable(
        name="WEB_HOST",
        section="Web",
        help="The address on which `manage.py up` serves.",
        example="0.0.0.0",  # noqa: S104  # an example
        options={"validate": validate.Regexp(r"[A-Za-z0-9._:-]+\Z", error="Not a host name or an address.")},
        default="127.0.0.1",
    ),
    Variable(
        name="WEB_PORT",
        section="Web",
        help="The port on which `manage.py up` serves.",
        example="8080",
        kind="int",
        options={"validate": validate.Range(min=1, max=65535)},
        default=8000,
    ),
    Variable(
        name="DATABASE_URL",
        section="Database",
        help="PostgreSQL 16 or later, with pgvector, as the role `nooble_app`, which owns nothing.",
        example="postgresql://nooble_app:secret@db.example.com:5432/nooble?sslmode=require",
        kind="database_url",
        default_text="the embedded PostgreSQL",
        required_in=PRODUCTION,
    ),
    Variable(
        name="DATABASE_OWNER_URL",
        section="Database",
        help="The same database as the role `nooble_owner`. Only `manage.py migrate` needs it.",
        example="postgresql://nooble_owner:secret@db.example.com:5432/nooble?sslmode=require",
        kind="database_url",
        default_text="`DATABASE_URL`, or the embedded PostgreSQL",
    ),
    Variable(
        name="DATABASE_POOL_SIZE",
        section="Database",
        help="Connections that one web process keeps open. Set it for web processes only: a worker that forks must "
        "not share a pool. `manage.py up` sets 8 for its web process.",
        example="16",
        kind="int",
        options={"validate": validate.Range(min=1)},
        default_text="no pool: a connection for each request",
    ),
    Variable(
        name="REDIS_URL",
        section="Queues",
        help="Redis 6.2 or later, an instance of its own with `maxmemory-policy noeviction`. It may lose everything.",
        example="redis://:secret@redis.example.com:6379/0",
        kind="redis_url",
        default_text="the embedded Redis",
        required_in=PRODUCTION,
    ),
    Variable(
        name="BROKER_URL",
        section="Queues",
        help="Celery's broker, where it is not the Redis of `REDIS_URL`.",
        example="amqp://nooble:secret@rabbitmq.example.com:5672/nooble",
        kind="broker_url",
        default_text="`REDIS_URL`",
    ),
    Variable(
        name="NOOBLE_DATA_DIR",
        section="Files",
        help="Where the embedded engines, logs and local uploads live.",
        example="/var/lib/nooble",
        kind="path",
        options={"validate": _directory},
        default=ROOT / ".nooble",
        default_text="`.nooble` in the project",
    ),
    Variable(
        name="MEDIA_ROOT",
        section="Files",
        help="Where uploads are kept when the storage is the file system. All processes must see the same directory.",
        example="/srv/nooble/media",
        kind="path",
        options={"validate": _directory},
        default_text="`media` in `NOOBLE_DATA_DIR`",
    ),
    Variable(
        name="STORAGE_BACKEND",
        section="Files",
        help="The Django storage class, by dotted path, that keeps uploads. Anything but the file system must be "
        "installed beside nooble.",
        example="storages.backends.s3.S3Storage",
        default="django.core.files.storage.FileSystemStorage",
    ),
    Variable(
        name="STORAGE_OPTIONS",
        section="Files",
        help="What that storage class is constructed with, as a JSON object.",
        example='{"bucket_name": "nooble-uploads"}',
        kind="json_object",
        default={},
    ),
    Variable(
        name="MAX_UPLOAD_BYTES",
        section="Files",
        help="The largest document that is accepted, whatever the tier says.",
        example="52428800",
        kind="int",
        options={"validate": validate.Range(min=1)},
        default=20 * 1024 * 1024,
    ),
    _key("OPENAI_API_KEY", "OpenAI", example="sk-..."),
    _base_url("OPENAI_BASE_URL", "OpenAI", example="https://llm.example.com/v1"),
    _key("GROQ_API_KEY", "Groq", example="gsk_..."),
    _base_url(
        "GROQ_BASE_URL",
        "Groq",
        example="https://groq.example.com",
        meaning="Another service that speaks Groq's protocol. It must not end in `/v1`: the SDK adds the path.",
        check=_groq_url,
    ),
    _key("ANTHROPIC_API_KEY", "Anthropic", example="sk-ant-..."),
    _base_url("ANTHROPIC_BASE_URL", "Anthropic", example="https://claude.example.com"),
    _key("COHERE_API_KEY", "Cohere", example="co-..."),
    _base_url(
        "COHERE_BASE_URL",
        "Cohere",
        example="https://cohere.example.com",
        meaning="Another service that speaks version 2 of Cohere's protocol, such as a private deployment.",
    ),
    _key("MISTRAL_API_KEY", "Mistral", example="Qm3v..."),
    _base_url("MISTRAL_BASE_URL", "Mistral", example="https://mistral.example.com/v1"),
    Variable(
        name="OLLAMA_BASE_URL",
        section="Providers",
        help="Where Ollama listens, if not where it does by default on the same machine.",
        example="http://gpu-1.internal:11434/v1",
        options={"validate": _HTTP_URL},
        # The adapter's own. A value would say that something else may stand there, which may have any model.
        default_text="`http://localhost:11434/v1`",
    ),
    Variable(
        name="OLLAMA_API_KEY",
        section="Providers",
        help="A key for Ollama's cloud, or for a proxy before it. A server of one's own needs none.",
        example="3f9c...",
        options={"validate": _KEY},
        default="",
    ),
    Variable(
        name="OLLAMA_CONTEXT_LENGTH",
        section="Providers",
        help="The tokens that Ollama holds of a request: what its server's variable of this name says, and `ollama ps` "
        "shows. What is longer it would cut without a word, so nothing longer is sent.",
        example="32768",
        kind="int",
        options={"validate": validate.Range(min=512)},
        default=4096,
    ),
    _key("AZURE_OPENAI_API_KEY", "its resource of Azure OpenAI", example="8c1d..."),
    Variable(
        name="AZURE_OPENAI_ENDPOINT",
        section="Providers",
        help="The address of that resource. The path of the v1 interface, `/openai/v1`, is added where it is missing.",
        example="https://acme.openai.azure.com",
        options={"validate": _azure_url},
        default_text="none",
    ),
    Variable(
        name="AZURE_OPENAI_DEPLOYMENTS",
        section="Providers",
        help="Which of OpenAI's models a deployment of that resource is, as a JSON object. A deployment that is named "
        "for its model needs no entry.",
        example='{"support-eu": "gpt-4.1-mini"}',
        kind="json_texts",
        default={},
    ),
    Variable(
        name="ALLOW_PRIVATE_PROVIDER_URLS",
        section="Providers",
        help="Whether an address that operators set for one tenant's credential may be in a private network, and be "
        "called without TLS. The deployment's own addresses, above, may be anyway.",
        example="true",
        kind="bool",
        default=False,
    ),
    Variable(
        name="CREDENTIAL_KEYS",
        section="Providers",
        help="What tenants' own keys for providers are encrypted with: a name, a colon and 32 random bytes in base64, "
        "and more of them comma-separated. The first encrypts, each decrypts what it encrypted.",
        example='"2026a:$(openssl rand -base64 32)"',
        kind="credential_keys",
        default={"development": b"development-only-credentials-key"},
        default_text="a key for development",
        required_in=PRODUCTION,
    ),
    Variable(
        name="PROVIDER_CIRCUIT_FAILURES",
        section="Providers",
        help="How many calls in a row fail before a model is left alone for a while: broken connections, errors on its "
        "provider's side, and a minute or more without a word. Each process counts for itself, for each key.",
        example="10",
        kind="int",
        options={"validate": validate.Range(min=1, max=1_000_000)},
        default=5,
    ),
    Variable(
        name="PROVIDER_CIRCUIT_SECONDS",
        section="Providers",
        help="How long it is left alone, before a call is tried.",
        example="60",
        kind="float",
        options={"validate": validate.Range(min=0.1, max=3600)},
        default=30.0,
    ),
    Variable(
        name="WORK_SETTINGS_FILE",
        section="Defaults",
        help="A TOML or JSON file with the deployment's values of the [settings below](#settings-of-the-work-itself), "
        "one table for each group. The other variables of this section go before it.",
        example="settings/work.example.toml",
        kind="work_settings",
        default={},
        default_text="none",
    ),
    Variable(
        name="DEFAULT_CHAT_PROVIDER",
        section="Defaults",
        help="Who answers where neither request, agent nor tier says.",
        example="groq",
        default_text="the file's, or `local`",
    ),
    Variable(
        name="DEFAULT_CHAT_MODEL",
        section="Defaults",
        help="The model that answers where neither request, agent nor tier says.",
        example="llama-3.3-70b-versatile",
        default_text="the file's, or `extractive`",
    ),
    Variable(
        name="DEFAULT_EMBEDDING_PROVIDER",
        section="Defaults",
        help="Who embeds the documents of a new collection, unless it says otherwise.",
        example="openai",
        default_text="the file's, or `local`",
    ),
    Variable(
        name="DEFAULT_EMBEDDING_MODEL",
        section="Defaults",
        help="The model that embeds the documents of a new collection.",
        example="text-embedding-3-small",
        default_text="the file's, or `wordllama-256`",
    ),
    Variable(
        name="DEFAULT_EMBEDDING_DIMENSIONS",
        section="Defaults",
        help="The length of that model's vectors.",
        example="1536",
        kind="int",
        options={"validate": validate.Range(min=8, max=4000)},
        default_text="the file's, or `256`",
    ),
    Variable(
        name="UNKNOWN_GRACE_SECONDS",
        section="Ledger",
        help="How long a call whose outcome nobody knows keeps its hold on the budget before it is given up as lost.",
        example="172800",
        kind="int",
        options={"validate": validate.Range(min=60, max=_YEAR)},
        default=86_400,
    ),
    Variable(
        name="SPOOL_DIR",
        section="Ledger",
        help="Where usage that is reported while PostgreSQL is away waits until it is back. It is the only copy: keep "
        "it on a local disk that outlives the process, and share it between no two hosts.",
        example="/var/lib/nooble/spool",
        kind="path",
        options={"validate": _directory},
        default_text="`spool` in `NOOBLE_DATA_DIR`",
    ),
    Variable(
        name="SPOOL_AFTER_SECONDS",
        section="Ledger",
        help="How long writing reported usage is tried again while PostgreSQL is away, before it goes to the spool.",
        example="2",
        kind="float",
        options={"validate": validate.Range(min=0.1, max=60)},
        default=5.0,
    ),
    Variable(
        name="METRICS_TOKEN",
        section="Logs",
        help="Who asks for `GET /metrics` sends it as a bearer token. Without it there is no such page.",
        example='"$(openssl rand -hex 24)"',
        options={"validate": validate.Length(min=20)},
        default="",
        default_text="none",
    ),
    Variable(
        name="LOG_LEVEL",
        section="Logs",
        help="The least severe messages that are logged: `DEBUG`, `INFO`, `WARNING`, `ERROR`.",
        example="WARNING",
        options={"validate": validate.OneOf(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])},
        default="INFO",
    ),
    Variable(
        name="LOG_FORMAT",
        section="Logs",
        help="`console` for people, `json` for machines, one object on a line.",
        example="json",
        options={"validate": validate.OneOf(["console", "json"])},
        default_text="`console`; `json` in production",
    ),
)
