"""The addresses of PostgreSQL and Redis, in the forms that Django and Celery take them."""

from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from psycopg.conninfo import conninfo_to_dict

#: A server that is there and silent (a network that swallows packets) must be noticed: within seconds when it is
#: called, within half a minute when it does not answer. libpq's names; the URL may say otherwise.
_PATIENCE = {
    "connect_timeout": 5,
    "tcp_user_timeout": 15_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
#: From the second time on, psycopg lets the server keep what `apps.core.db.fetch_prepared` runs. The ORM's queries are
#: not concerned: Django's cursor writes their parameters into their text.
_PREPARE_THRESHOLD = 1
_DJANGO_NAMES = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}


def database(url: str, *, pool_size: int | None = None) -> dict[str, Any]:
    """One of Django's DATABASES for a PostgreSQL URL; whatever else the URL says (``sslmode``) goes to the driver."""
    given = {name: value for name, value in conninfo_to_dict(url).items() if value is not None}
    parameters: dict[str, Any] = {"prepare_threshold": _PREPARE_THRESHOLD, **_PATIENCE, **given}
    names = {_DJANGO_NAMES[name]: parameters.pop(name) for name in _DJANGO_NAMES if name in parameters}
    if pool_size:
        parameters["pool"] = {"min_size": 1, "max_size": pool_size}
    return {
        "ENGINE": "django.db.backends.postgresql",
        **names,
        "OPTIONS": parameters,
        "CONN_MAX_AGE": 0,  # under ASGI a connection that outlives its request belongs to a thread that may be gone
        "CONN_HEALTH_CHECKS": True,
    }


def broker(redis_url: str) -> str:
    """The URL by which kombu reaches the same Redis: it has its own scheme for Unix sockets."""
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        return redis_url
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    query["virtual_host"] = query.pop("db", "0")
    return f"redis+socket://{parts.netloc}{parts.path}?{urlencode(query)}"
