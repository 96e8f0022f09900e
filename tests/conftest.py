"""What every test may ask for: real engines, a database of its own role, a real worker.

Tests commit. Nothing is rolled back between them: a test makes a tenant of its own, and row-level security keeps it
apart from the others; on_commit hooks run because there are commits. The database is dropped at the end.
"""

import os
import shutil
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

import pytest
from django.conf import settings
from django.db import connections
from django.test.utils import setup_databases, teardown_databases
from pytest_django import DjangoDbBlocker

from nooble import embedded, programs, queues
from nooble.outputs import FileOutput
from nooble.processes import Supervisor
from tests.fakes.process import FakeProvider
from tests.faults.scene import Scene
from tests.personas import Persona

WORKER_LOG: pytest.StashKey[Path] = pytest.StashKey()


@pytest.fixture(scope="session")
def engines() -> Iterator[None]:
    """PostgreSQL and Redis of this session alone, so that a test may kill them; gone when it ends."""
    _remove_abandoned(settings.NOOBLE_DATA_DIR.parent)
    embedded.ensure()
    yield
    embedded.engines(settings.NOOBLE_DATA_DIR).leave()
    shutil.rmtree(settings.NOOBLE_DATA_DIR, ignore_errors=True)


@pytest.fixture(scope="session")
def database(engines: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The migrated test database: made and owned by the owner's role, used as the application's."""
    with django_db_blocker.unblock():
        databases = setup_databases(verbosity=0, interactive=False, serialized_aliases=[])
        yield
        connections.close_all()
        teardown_databases(databases, verbosity=0)


@pytest.fixture(scope="session")
def worker(database: None, fake_provider_process: FakeProvider, request: pytest.FixtureRequest) -> Iterator[Supervisor]:
    """A Celery worker for all queues, in a process of its own; started again when a test has killed it.

    What it logged while a test ran is shown when that test fails.
    """
    output = FileOutput(settings.NOOBLE_DATA_DIR / "log")
    request.config.stash[WORKER_LOG] = output.directory / "worker.log"
    program = programs.worker("worker", pool="threads", concurrency=8, consumes=queues.names())
    program = replace(program, environment={**program.environment, **worker_environment()})
    with Supervisor([[program]], output=output) as supervisor:
        supervisor.wait_until_ready()
        yield supervisor
    output.close()


@pytest.fixture
def scene(owner: Persona, fake_provider: FakeProvider, worker: Supervisor) -> Iterator[Scene]:
    """A tenant whose provider cannot be asked what became of a request; its books agree in the end."""
    yield (scene := Scene(persona=owner, fake=fake_provider, provider="fake"))
    scene.check_books()


@pytest.fixture
def question() -> str:
    """One that no other test asks, so that its faults are its own."""
    return f"Who has the key {uuid4().hex}?"


def worker_environment() -> dict[str, str]:
    """What makes a process nooble starts use this session's engines and test database."""
    return {
        "DJANGO_SETTINGS_MODULE": "settings.test",
        "NOOBLE_DATA_DIR": str(settings.NOOBLE_DATA_DIR),
        "DATABASE_URL": _url(connections["default"].settings_dict),
        "DATABASE_OWNER_URL": _url(connections["owner"].settings_dict),
        "REDIS_URL": settings.REDIS_URL,
    }


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    log = item.config.stash.get(WORKER_LOG, None)
    if log is not None and log.exists():
        text = log.read_text()
        if report.when == "setup":
            item.stash[_LENGTH] = len(text)
        elif report.failed:
            report.sections.append(("worker log", text[item.stash.get(_LENGTH, 0) :]))
    return report


_LENGTH: pytest.StashKey[int] = pytest.StashKey()


def _url(database: Mapping[str, Any]) -> str:
    parameters = {"host": database["HOST"], "port": database["PORT"], **database["OPTIONS"]}
    query = urlencode({name: value for name, value in parameters.items() if value and isinstance(value, str)})
    password = f":{quote(database['PASSWORD'], safe='')}" if database["PASSWORD"] else ""
    return f"postgresql://{database['USER']}{password}@/{database['NAME']}?{query}"


def _remove_abandoned(directory: Path) -> None:
    """Stop and remove the engines of sessions that were killed."""
    for data_dir in directory.glob("[0-9]*"):
        if not _lives(int(data_dir.name)) and embedded.Engines(data_dir).stop_abandoned():
            shutil.rmtree(data_dir)


def _lives(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
