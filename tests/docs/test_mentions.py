"""What there is stands in the documentation, and not as a plan: a new task or endpoint fails here until it does.

Variables and errors have pages that are generated: see ``test_generated``.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from celery import current_app
from django.core.management import get_commands
from django.urls import URLPattern, URLResolver, get_resolver

from apps.ledger.models import Entry
from apps.ledger.types import DiscrepancyKind
from nooble import beat, queues
from nooble.metrics import METRICS
from tasks.base import ContextTask
from tests.architecture.test_doors import OPERATORS
from tests.docs.pages import Page, page

API = "api/v1/"


def _patterns(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for entry in resolver.url_patterns:
        path = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from _patterns(entry, path)
        else:
            yield path, entry


def _endpoints() -> Iterator[str]:
    """``GET /agents/{id}`` for every method of every address of the API."""
    for path, pattern in _patterns(get_resolver()):
        if path.startswith(API):
            shown = "/".join(map(_shown, path.removeprefix(API).split("/")))
            view: Any = pattern.callback
            yield from (f"{method.upper()} /{shown}" for method in view.actions if method != "head")


def _shown(part: str) -> str:
    """A part of an address; ids go by one name, whatever the view calls them."""
    if not part.startswith("<"):
        return part
    return "{id}" if part.startswith("<uuid:") else "{" + part.strip("<>").partition(":")[2] + "}"


def _other_addresses() -> Iterator[str]:
    for path, _ in _patterns(get_resolver()):
        if not path.startswith((API, "admin/")):
            yield f"GET /{path}"


ENDPOINTS = sorted(set(_endpoints()))
TASKS = sorted(name for name in current_app.tasks if not name.startswith("celery."))
#: The tasks that carry a context, by name.
ACTIONS = {name: task for name, task in current_app.tasks.items() if isinstance(task, ContextTask)}
COMMANDS = sorted(name for name, app in get_commands().items() if app.startswith(("apps.", "nooble")))
#: Explained for all tables at once.
OF_EVERY_TABLE = {"id", "tenant_id", "owner_tenant_id", "payer_tenant_id"}
COLUMNS = sorted({str(field.column) for field in Entry._meta.concrete_fields} - OF_EVERY_TABLE)


def test_there_is_something_to_look_for() -> None:
    assert {"GET /agents/{id}", "POST /chat", "GET /collections/{id}/documents"} <= set(ENDPOINTS)
    assert {"query.answer", "maintenance.sweep"} <= set(TASKS)
    assert {"up", "create_tenant", "migrate"} <= set(COMMANDS)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_endpoint_is_documented(endpoint: str) -> None:
    assert f"`{endpoint}`" in page("docs/api.md").present


@pytest.mark.parametrize("address", sorted(set(_other_addresses())))
def test_every_other_address_is_documented(address: str) -> None:
    assert f"`{address}`" in page("docs/api.md").present


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_documented(task: str) -> None:
    assert f"`{task}`" in page("docs/operations.md").present


@pytest.mark.parametrize("name", sorted(ACTIONS))
def test_every_action_is_in_the_catalogue_with_its_payload(name: str) -> None:
    fields = " ".join(f"`{field}`" for field in ACTIONS[name].payload.model_fields)
    assert f"| `{name}` | {fields} |" in page("docs/operations.md").present


@pytest.mark.parametrize("entry", beat.SCHEDULE.values(), ids=lambda entry: entry["task"])
def test_every_periodic_task_is_documented_with_its_period(entry: dict[str, Any]) -> None:
    named = {60: "every minute", 3600: "hourly", 86_400: "daily"}
    period = named.get(entry["schedule"], f"every {entry['schedule']} seconds")
    assert f"`{entry['task']}`, {period}" in page("docs/operations.md").present


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_explained_with_what_it_is_divided_by(name: str) -> None:
    divided_by = " ".join(f"`{label}`" for label in METRICS[name][1])
    assert f"| `{name}` | {divided_by} |".replace("|  |", "| |") in page("docs/operations.md").present


@pytest.mark.parametrize("queue", queues.names())
def test_every_queue_is_documented(queue: str) -> None:
    assert f"`{queue}`" in page("docs/operations.md").present


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented(command: str) -> None:
    assert re.search(rf"`manage\.py {command}[ `]", _section(page("docs/operations.md"), "Commands"))


@pytest.mark.parametrize("column", COLUMNS)
def test_every_column_of_an_entry_is_explained(column: str) -> None:
    assert f"`{column}`" in _section(page("docs/ledger.md"), "What stands in an entry")


@pytest.mark.parametrize("kind", DiscrepancyKind.values)
def test_every_kind_of_discrepancy_is_explained(kind: str) -> None:
    assert f"`{kind}`" in _section(page("docs/ledger.md"), "Reconciliation")


@pytest.mark.parametrize("module", sorted(OPERATORS))
def test_every_module_that_sees_all_tenants_is_named(module: str) -> None:
    assert f"`{module}`" in page("docs/architecture.md").present


def _section(written: Page, heading: str) -> str:
    """The text under a heading of the second level."""
    return written.present.split(f"\n## {heading}\n")[1].split("\n## ")[0]
