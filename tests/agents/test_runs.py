"""What is shown of runs, whatever became of the key or the row that they were stored with, and what is read for it."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.agents.models import Run
from apps.core.context import ContextRefusedError
from apps.core.db import unit_of_work
from tests.api import rows
from tests.personas import Persona

RUNS = "/api/v1/runs"


@pytest.fixture
def run(owner: Persona) -> dict[str, Any]:
    """A run as it is shown while the key it was stored with is in use."""
    rows.add_runs(owner, 1)
    [shown] = owner.api.get(RUNS).json()["results"]
    assert shown["config"]["llm_config"]["model"] == "extractive"
    return dict(shown)


@pytest.fixture
def key_thrown_away(run: dict[str, Any], settings: Any) -> None:
    settings.SECRET_KEY = "a new key, and nobody kept the one that was before it"
    settings.SECRET_KEY_FALLBACKS = []


@pytest.mark.usefixtures("key_thrown_away")
def test_runs_are_shown_whole_when_the_key_that_signed_them_is_gone(owner: Persona, run: dict[str, Any]) -> None:
    rows.add_runs(owner, 1)
    response = owner.api.get(RUNS)
    assert response.status_code == 200
    signed_now, signed_before = response.json()["results"]
    assert signed_before == run
    assert signed_now["config"] == run["config"]
    assert owner.api.get(f"{RUNS}/{run['id']}").json() == run
    assert owner.api.post(f"{RUNS}/{run['id']}/cancel").json() == run


@pytest.mark.usefixtures("key_thrown_away")
def test_nothing_is_done_in_a_context_whose_key_is_gone(owner: Persona) -> None:
    with unit_of_work(owner.ctx), pytest.raises(ContextRefusedError):
        _ = Run.objects.get().context


@pytest.mark.parametrize("stored", ["", "damaged", ".AAAA:b:c"])
def test_a_run_whose_context_cannot_be_read_hides_no_other(owner: Persona, run: dict[str, Any], stored: str) -> None:
    rows.add_runs(owner, 1)
    with unit_of_work(owner.ctx):
        Run.objects.filter(pk=run["id"]).update(signed_context=stored)
    whole, damaged = owner.api.get(RUNS).json()["results"]
    assert whole["config"] == run["config"]
    assert damaged == {**run, "config": None}


def test_a_run_whose_context_has_no_configuration_hides_no_other(owner: Persona, run: dict[str, Any]) -> None:
    with unit_of_work(owner.ctx):
        Run.objects.filter(pk=run["id"]).update(signed_context=owner.ctx.sign())
    assert owner.api.get(RUNS).json()["results"] == [{**run, "config": None}]


@pytest.mark.parametrize(
    ("method", "address"), [("get", RUNS), ("get", f"{RUNS}/{{id}}"), ("post", f"{RUNS}/{{id}}/cancel")]
)
def test_what_was_found_for_a_run_is_not_read_to_show_it(
    owner: Persona, run: dict[str, Any], method: str, address: str
) -> None:
    with CaptureQueriesContext(connection) as captured:
        response = getattr(owner.api, method)(address.format(id=run["id"]))
    assert response.status_code == 200
    read = [sql for query in captured.captured_queries if 'FROM "agents_run"' in (sql := query["sql"] or "")]
    assert read
    assert [sql for sql in read if "passages" in sql] == []
