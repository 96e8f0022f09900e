"""``manage.py migrate``, as the owner, into a database of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest

from apps.core import roles
from settings.variables import ROOT
from tests.conftest import worker_environment


@pytest.fixture
def empty(database: None) -> Iterator[dict[str, str]]:
    """The environment of a process that finds an empty database."""
    environment = worker_environment()
    with psycopg.connect(environment["DATABASE_OWNER_URL"], autocommit=True) as owner:
        owner.execute("CREATE DATABASE empty")
        urls = {name: environment[name] for name in ("DATABASE_URL", "DATABASE_OWNER_URL")}
        yield environment | {name: urlsplit(url)._replace(path="/empty").geturl() for name, url in urls.items()}
        owner.execute("DROP DATABASE empty")


def migrate(environment: dict[str, str], *names: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "manage.py", "migrate", *(names or ("core",)), "--verbosity", "0"]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stderr=subprocess.PIPE, text=True)


def migrated(environment: dict[str, str], *names: str) -> None:
    process = migrate(environment, *names)
    _, complaint = process.communicate()
    assert process.returncode == 0, complaint


def waits_for_a_lock(process: "subprocess.Popen[str]", connection: psycopg.Connection) -> bool:
    """Whether the process comes to wait for an advisory lock before it ends."""
    waiting = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    while process.poll() is None:
        if connection.execute(waiting).rowcount:
            return True
    return False


def test_migrations_wait_for_those_of_another_process(empty: dict[str, str]) -> None:
    with psycopg.connect(empty["DATABASE_OWNER_URL"], autocommit=True) as owner:
        owner.execute("SELECT pg_advisory_lock(%s)", [roles.MIGRATION_LOCK])
        process = migrate(empty)
        assert waits_for_a_lock(process, owner)
    _, complaint = process.communicate()
    assert process.returncode == 0, complaint


def test_the_tables_belong_to_the_owner(empty: dict[str, str]) -> None:
    _, complaint = migrate(empty).communicate()
    with psycopg.connect(empty["DATABASE_URL"]) as application:
        owners = application.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
        assert owners.fetchall() == [("nooble_owner",)], complaint


AGENT = "INSERT INTO agents_agent VALUES (%(id)s, %(id)s, 'helper', 'Helper', 2, now(), now())"
VERSION = """
INSERT INTO agents_agentversion (id, tenant_id, agent_id, number, prompt, settings, collections, fallback_models)
VALUES (gen_random_uuid(), %(id)s, %(id)s, %(number)s, '', '{}', '{}', %(models)s)
"""


def test_agents_that_had_named_no_fallback_models_still_have_the_deployments(empty: dict[str, str]) -> None:
    migrated(empty, "agents", "0004")
    with psycopg.connect(empty["DATABASE_URL"], autocommit=True) as application:
        application.execute("SET ROLE nooble_operator")
        agent = {"id": uuid4()}
        application.execute(AGENT, agent)
        for number, models in enumerate(([], ["a/b"])):
            application.execute(VERSION, {**agent, "number": number, "models": models})
        assert after(empty, application, "0005") == [None, ["a/b"]]
        assert after(empty, application, "0004") == [[], ["a/b"]]


def after(environment: dict[str, str], application: psycopg.Connection, migration: str) -> list[list[str] | None]:
    """The fallback models of the versions, once the agents are at that migration."""
    migrated(environment, "agents", migration)
    found = application.execute("SELECT fallback_models FROM agents_agentversion ORDER BY number")
    return [row[0] for row in found]


def test_the_code_before_is_left_no_concurrency_but_what_an_operator_has_set(empty: dict[str, str]) -> None:
    migrated(empty, "tenants", "0008")
    with psycopg.connect(empty["DATABASE_URL"], autocommit=True) as application:
        application.execute("SET ROLE nooble_operator")
        seeded = concurrencies(application)
        assert seeded == {"free": None, "advance": 10, "professional": 20, "enterprise": 50}
        edit = """UPDATE tenants_tier SET defaults = '{"processing_config.concurrency": 7}' WHERE name = 'enterprise'"""
        application.execute(edit)
        migrated(empty, "tenants", "0007")
        assert concurrencies(application) == {**dict.fromkeys(seeded), "enterprise": 7}
        migrated(empty, "tenants", "0008")
        assert concurrencies(application) == {**seeded, "enterprise": 7}


def concurrencies(application: psycopg.Connection) -> dict[str, int | None]:
    """By tier, what its defaults say of how much of a tenant's work is under way at once."""
    found = application.execute("SELECT name, defaults -> 'processing_config.concurrency' FROM tenants_tier")
    return dict(found.fetchall())
