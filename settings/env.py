"""Reading the environment: all of it at once, so that a deployment is corrected in one go."""

import json
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from environs import Env, EnvError, EnvValidationError
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from settings.variables import VARIABLES, Variable


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
        raise InvalidEnvironmentError(_report(module, error.error_messages)) from error
    return values


def _reader() -> Env:
    env = Env(eager=False)
    env.add_parser("database_url", _database_url)
    env.add_parser("redis_url", _redis_url)
    env.add_parser("broker_url", _broker_url)
    env.add_parser("json_object", _json_object)
    return env


def _read(env: Env, variable: Variable, settings_name: str) -> Any:
    if not os.environ.get(variable.name) and settings_name not in variable.required_in:
        return variable.default
    return getattr(env, variable.kind)(variable.name, **variable.options)


def _database_url(value: str) -> str:
    try:
        parts = conninfo_to_dict(value) if urlsplit(value).scheme in {"postgresql", "postgres"} else {}
        # Several hosts have a port each.
        if parts.get("dbname") and all(port.isdigit() for port in str(parts.get("port", "0")).split(",")):
            return value
    except (ValueError, ProgrammingError):
        pass
    # Neither the value nor the parser's words: they can hold the password.
    raise EnvError("Not a postgresql:// URL that names a database.") from None


def _redis_url(value: str) -> str:
    if _scheme(value) not in {"redis", "rediss", "unix"}:
        raise EnvError("Not a redis://, rediss:// or unix:// URL.")
    return value


def _broker_url(value: str) -> str:
    from kombu.transport import TRANSPORT_ALIASES  # noqa: PLC0415 - for whoever sets it

    # Several brokers are divided by semicolons.
    for one in value.split(";"):
        # Such as redis+socket.
        if _scheme(one).partition("+")[0] not in TRANSPORT_ALIASES:
            raise EnvError("Not the URL of a broker that Celery knows, such as amqp:// or redis://.")
    return value


def _scheme(url: str) -> str:
    """The scheme of a URL that has a sound port or none; else nothing. Its parser's words may hold the password."""
    try:
        parts, _ = urlsplit(url), urlsplit(url).port
    except ValueError:
        return ""
    return parts.scheme


def _json_object(value: str) -> dict[str, Any]:
    try:
        parsed = json.loads(value)
    except ValueError as error:
        raise EnvError("Not valid JSON.") from error
    if not isinstance(parsed, dict):
        raise EnvError("Not a JSON object.")
    return parsed


def _report(module: str, messages: Mapping[str, list[str]] | list[str]) -> str:
    assert isinstance(messages, Mapping)  # a sealed Env reports by name
    lines = [f"nooble cannot start with {module or 'these settings'}: the environment is not valid.", ""]
    for variable in VARIABLES:
        if variable.name in messages:
            lines += [
                f"  {variable.name}: {' '.join(messages[variable.name])}",
                f"      {variable.help}",
                f"      Example: {variable.name}={variable.example}",
            ]
    lines += ["", "Every variable is explained in docs/configuration.md."]
    if module == "settings.prod":
        lines.append("With DJANGO_SETTINGS_MODULE=settings.dev nothing has to be set.")
    return "\n".join(lines)
