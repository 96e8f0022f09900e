"""The environment: what is wrong with it is said at once, readably, wherever a process starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from settings import env, services
from settings.variables import VARIABLES, Variable

ROOT = Path(__file__).resolve().parents[2]
PRODUCTION = {
    "DJANGO_SETTINGS_MODULE": "settings.prod",
    "SECRET_KEY": "0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "ALLOWED_HOSTS": "api.example.com",
    "DATABASE_URL": "postgresql://nooble_app:secret@db.example.com/nooble",
    "DATABASE_OWNER_URL": "postgresql://nooble_owner:secret@db.example.com/nooble",
    "REDIS_URL": "redis://redis.example.com:6379/0",
}
COMMANDS = {
    "manage": ["manage.py", "check"],
    "celery": ["-m", "celery", "-A", "nooble", "worker"],
    "uvicorn": ["-m", "uvicorn", "nooble.asgi:application"],
}


def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run Python with nothing in its environment but these."""
    environment = {"PATH": os.environ["PATH"], **variables}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No variable of ours is set."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "settings.dev")
    return monkeypatch


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_way_to_start_reports_all_that_is_wrong_and_no_traceback(command: list[str]) -> None:
    bad = {"WEB_PORT": "none", "REDIS_URL": "http://redis", "DATABASE_URL": "mysql://me:hidden@db/nooble"}
    result = run(*command, **PRODUCTION | bad | {"SECRET_KEY": "short"})
    assert result.returncode == 1
    for expected in ("WEB_PORT: Not a valid integer.", "REDIS_URL: Not a redis", "DATABASE_URL: Not a", "SECRET_KEY: "):
        assert expected in result.stderr
    assert "Example: WEB_PORT=8080" in result.stderr
    assert "Traceback" not in result.stderr
    assert "hidden" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgresql://db:hidden/nooble"),
        ("DATABASE_URL", "postgresql://db.example.com"),
        ("REDIS_URL", "redis://redis.example.com:hidden/0"),
        ("BROKER_URL", "hidden"),
        ("BROKER_URL", "smtp://hidden"),
        ("BROKER_URL", "amqp://broker:hidden//"),
        ("CSRF_TRUSTED_ORIGINS", "https://admin.example.com,hidden"),
        ("WEB_HOST", ";;"),
        ("WEB_PORT", "0"),
    ],
)
def test_a_malformed_one_is_named_with_an_example_and_not_repeated(
    clean: pytest.MonkeyPatch, name: str, value: str
) -> None:
    clean.setenv(name, value)
    with pytest.raises(env.InvalidEnvironmentError) as caught:
        env.load()
    assert f"{name}: " in str(caught.value)
    assert f"Example: {name}=" in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgresql://me:secret@one:5432,two:5433/nooble"),
        ("BROKER_URL", "amqp://one//;amqp://two//"),
        ("BROKER_URL", "redis+socket:///run/redis.sock"),
        ("WEB_HOST", "::1"),
    ],
)
def test_less_usual_ones_are_taken(clean: pytest.MonkeyPatch, name: str, value: str) -> None:
    clean.setenv(name, value)
    assert env.load()[name] == value


def test_production_names_everything_it_cannot_do_without(clean: pytest.MonkeyPatch) -> None:
    clean.setenv("DJANGO_SETTINGS_MODULE", "settings.prod")
    with pytest.raises(env.InvalidEnvironmentError) as caught:
        env.load()
    missing = {line.split(":")[0].strip() for line in str(caught.value).splitlines() if "not set" in line}
    assert missing == {"SECRET_KEY", "ALLOWED_HOSTS", "DATABASE_URL", "REDIS_URL"}
    assert all(f"Example: {name}=" in str(caught.value) for name in missing)


def test_development_needs_nothing(clean: pytest.MonkeyPatch) -> None:
    values = env.load()
    assert values == {variable.name: variable.default for variable in VARIABLES}


def test_an_empty_variable_counts_as_not_set(clean: pytest.MonkeyPatch) -> None:
    for name in ("WEB_PORT", "DATABASE_URL", "ALLOWED_HOSTS", "LOG_LEVEL"):
        clean.setenv(name, "")
    assert env.load()["WEB_PORT"] == 8000
    clean.setenv("DJANGO_SETTINGS_MODULE", "settings.prod")
    with pytest.raises(env.InvalidEnvironmentError, match="ALLOWED_HOSTS"):
        env.load()


# The secret key's example is a command that makes one.
@pytest.mark.parametrize("variable", VARIABLES[1:], ids=lambda variable: variable.name)
def test_every_example_is_valid(variable: Variable, clean: pytest.MonkeyPatch) -> None:
    clean.setenv(variable.name, variable.example)
    assert env.load()[variable.name]


def test_production_settings_pass_the_deployment_checks() -> None:
    result = run("manage.py", "check", "--deploy", "--fail-level", "WARNING", **PRODUCTION)
    assert result.returncode == 0, result.stderr


def test_one_role_for_both_urls_is_reported_before_a_deployment() -> None:
    same = PRODUCTION | {"DATABASE_OWNER_URL": ""}
    result = run("manage.py", "check", "--deploy", "--fail-level", "WARNING", **same)
    assert result.returncode == 1
    assert "nooble.W001" in result.stderr


def test_a_database_url_becomes_a_connection() -> None:
    database = services.database("postgresql://me:p%40ss@db:5433/nooble?sslmode=require", pool_size=4)
    assert (database["USER"], database["PASSWORD"], database["HOST"]) == ("me", "p@ss", "db")
    options = database["OPTIONS"]
    assert (options["sslmode"], options["pool"]) == ("require", {"min_size": 1, "max_size": 4})


def test_a_silent_database_is_noticed_unless_the_url_is_more_patient() -> None:
    assert services.database("postgresql://db/nooble")["OPTIONS"]["connect_timeout"] == 5
    assert services.database("postgresql://db/nooble?connect_timeout=60")["OPTIONS"]["connect_timeout"] == "60"


def test_a_redis_socket_is_a_broker_too() -> None:
    assert services.broker("unix:///run/redis.sock?db=3") == "redis+socket:///run/redis.sock?virtual_host=3"
    assert services.broker("rediss://redis:6379/1") == "rediss://redis:6379/1"
