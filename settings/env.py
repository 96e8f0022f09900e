"""Reading the environment: all of it at once, so that a deployment is corrected in one go."""

import base64
import json
import os
import re
import textwrap
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from environs import Env, EnvError, EnvValidationError
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from settings.variables import VARIABLES, Variable

_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


class InvalidEnvironmentError(SystemExit):
    """The environment is not fit to start with.

    A SystemExit, because every way of starting a process (manage.py, celery, uvicorn) then prints the message and ends
    with status 1, where any other exception would bury it under a traceback.
    """


def load() -> dict[str, Any]:
    """The value of every variable by name; raises InvalidEnvironmentError that names all that are wrong."""
    module = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    env = _reader()
    values = {variable.name: _read(env, variable, module.rpartition(".")[2]) for variable in VARIABLES}
    try:
        env.seal()
    except EnvValidationError as error:
        raise InvalidEnvironmentError(report(_problems(error.error_messages))) from error
    return values


def _reader() -> Env:
    env = Env(eager=False)
    env.add_parser("database_url", _database_url)
    env.add_parser("redis_url", _redis_url)
    env.add_parser("broker_url", _broker_url)
    env.add_parser("credential_keys", _credential_keys)
    env.add_parser("json_object", _json_object)
    env.add_parser("json_texts", _json_texts)
    env.add_parser("work_settings", _work_settings)
    return env


def _read(env: Env, variable: Variable, settings_name: str) -> Any:
    if not os.environ.get(variable.name) and settings_name not in variable.required_in:
        return variable.default
    return getattr(env, variable.kind)(variable.name, **variable.options)


# Of addresses neither the value is repeated nor a parser's words of it: both can hold the password.


def _database_url(value: str) -> str:
    try:
        parts = conninfo_to_dict(value) if urlsplit(value).scheme in {"postgresql", "postgres"} else {}
    except (ValueError, ProgrammingError):
        parts = {}
    if not parts.get("dbname") or not all(map(_is_port, str(parts.get("port", "5432")).split(","))):
        raise EnvError("Not a postgresql:// URL that names a database.") from None
    # libpq reads these when it connects, and every request would be told that the database is away.
    if parts.get("sslmode", "prefer") not in _SSL_MODES:
        raise EnvError(f"Its sslmode is none of {', '.join(_SSL_MODES)}.")
    if not str(parts.get("connect_timeout", "5")).isdigit():
        raise EnvError("Its connect_timeout is not a number of seconds.")
    return value


def _is_port(text: str) -> bool:
    # Of several hosts one may have none: PostgreSQL's own.
    return not text or (text.isdigit() and 0 < int(text) < 65_536)


def _redis_url(value: str) -> str:
    import redis  # noqa: PLC0415 - for whoever sets it

    parts = _split(value)
    place = parts.path if parts.scheme == "unix" else parts.hostname
    if parts.scheme not in {"redis", "rediss", "unix"} or not place:
        raise EnvError("Not a redis://, rediss:// or unix:// URL.")
    _require_number(parts)
    try:
        # Nothing is opened: a connection object takes its options, or does not.
        redis.ConnectionPool.from_url(value).make_connection()
    except (ValueError, TypeError, redis.RedisError):
        raise EnvError("Not a Redis URL: one of its options is unknown or has no sound value.") from None
    return value


def _broker_url(value: str) -> str:
    # Several brokers are divided by semicolons.
    for parts in map(_split, value.split(";")):
        if not _has_transport(parts.scheme):
            raise EnvError(
                "Not the URL of a broker that Celery knows, such as amqp:// or redis://, with its library installed."
            )
        _require_number(parts)
    return value


def _has_transport(scheme: str) -> bool:
    from kombu.transport import TRANSPORT_ALIASES, get_transport_cls  # noqa: PLC0415 - for whoever sets it

    name = scheme.partition("+")[0]  # of redis+socket, say
    if name not in TRANSPORT_ALIASES:
        return False
    try:
        get_transport_cls(name)
    except Exception:  # noqa: BLE001 - whatever a module of kombu does without its library: some raise a NameError
        return False
    return True


def _require_number(parts: SplitResult) -> None:
    """A Redis database is a number. What is none would be database 0, without a word."""
    if parts.scheme in {"redis", "rediss"} and not (parts.path.strip("/") or "0").isdigit():
        raise EnvError("Its path is not the number of a Redis database.")


def _split(url: str) -> SplitResult:
    """A URL that has a sound port or none; else nothing at all."""
    try:
        parts, _ = urlsplit(url), urlsplit(url).port
    except ValueError:
        return urlsplit("")
    return parts


def _credential_keys(value: str) -> dict[str, bytes]:
    """Keys of AES-256 by their names, in their order; see :mod:`apps.tenants.encryption`."""
    pairs = [_credential_key(item.strip()) for item in value.split(",")]
    keys = dict(pairs)
    if len(keys) < len(pairs):
        raise EnvError("Two keys have one name.")
    return keys


def _credential_key(text: str) -> tuple[str, bytes]:
    name, _, encoded = text.partition(":")
    try:
        key = base64.b64decode(encoded, validate=True)
    except ValueError:
        key = b""
    # 32 random bytes repeat a few of their values, and never so many.
    if not _KEY_ID.fullmatch(name) or len(key) != 32 or len(set(key)) < 16:
        raise EnvError("Not a comma-separated list of keys, each a name, a colon and 32 random bytes in base64.")
    return name, key


def _json_object(value: str) -> dict[str, Any]:
    try:
        parsed = json.loads(value)
    except ValueError as error:
        raise EnvError("Not valid JSON.") from error
    if not isinstance(parsed, dict):
        raise EnvError("Not a JSON object.")
    return parsed


def _json_texts(value: str) -> dict[str, str]:
    parsed = _json_object(value)
    if not all(isinstance(text, str) for text in parsed.values()):
        raise EnvError("Not a JSON object of texts.")
    return parsed


def _work_settings(value: str) -> dict[str, Any]:
    from apps.core import configuration  # noqa: PLC0415 - for whoever sets it

    objects = {name for name, setting in configuration.SETTINGS.items() if setting.type is dict}
    settings = _flat(_tables(Path(value)), whole=objects)
    try:
        return configuration.check(settings, level=configuration.Level.DEPLOYMENT)
    except configuration.InvalidSettingError as error:
        raise EnvError(f"In the file: {error.detail}") from error


def _tables(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        tables = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise EnvError(f"The file cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise EnvError(f"The file is not valid {'JSON' if path.suffix == '.json' else 'TOML'}: {error}") from error
    if not isinstance(tables, dict):
        raise EnvError("The file is not a JSON object.")
    return tables


def _flat(tables: Mapping[str, Any], prefix: str = "", *, whole: Collection[str] = ()) -> dict[str, Any]:
    """Tables in tables by dotted name: ``{"llm_config": {"max_tokens": 5}}`` → ``{"llm_config.max_tokens": 5}``.

    ``whole`` are names of tables that are values.
    """
    flat: dict[str, Any] = {}
    for name, value in tables.items():
        path = f"{prefix}{name}"
        is_value = path in whole or not isinstance(value, dict)
        flat |= {path: value} if is_value else _flat(value, f"{path}.", whole=whole)
    return flat


def report(problems: Iterable[str]) -> str:
    """What a process says that does not start; each problem begins with the name of its variable."""
    module = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    lines = [f"nooble cannot start with {module or 'these settings'}: the environment is not valid.", ""]
    lines += [textwrap.indent(problem, "  ") for problem in problems]
    lines += ["", "Every variable is explained in docs/configuration.md."]
    if module == "settings.prod":
        lines.append("With DJANGO_SETTINGS_MODULE=settings.dev nothing has to be set.")
    return "\n".join(lines)


def _problems(messages: Mapping[str, list[str]] | list[str]) -> Iterator[str]:
    assert isinstance(messages, Mapping)  # a sealed Env reports by name
    for variable in VARIABLES:
        if variable.name in messages:
            words = " ".join(messages[variable.name])
            yield f"{variable.name}: {words}\n    {variable.help}\n    Example: {variable.name}={variable.example}"
