"""How an operator finds a row, and what leads from one row to the next."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from django.contrib import admin
from django.db import models
from django.db.models.functions import Now
from django.test import Client
from django_celery_results.models import TaskResult

from apps.agents.models import Conversation, Run
from apps.agents.types import RunStatus
from apps.collections.models import Document, EmbeddingBatch
from apps.core.admin_filters import first_id
from apps.core.admin_pages import RecordAdmin, change_url, list_url
from apps.core.context import LLMConfig
from apps.core.db import execute, fetch_all, operator_scope, unit_of_work
from apps.core.ids import new_id
from apps.core.models import DeadLetter
from apps.ledger import repricing, till
from apps.ledger.adjustments import adjust
from apps.ledger.models import Attempt, Budget, Entry, Operation, UsageDaily, UsageMonthly
from apps.ledger.price_list import BEGINNING, FREE
from apps.ledger.pricing import set_price
from apps.ledger.types import Call, Charge, OperationKind, TokenCounts, TokenType
from apps.tenants.admin_columns import TenantFilter
from tests.personas import Persona


def text(browser: Client, url: str) -> str:
    response = browser.get(url)
    assert response.status_code == 200, url
    return unescape(response.content.decode())


def follow(browser: Client, url: str, title: str) -> str:
    """The page behind a link of a page."""
    found = re.search(rf'<a class="text-link" href="([^"]+)">{title}</a>', text(browser, url))
    assert found, f"{url} has no link “{title}”"
    return text(browser, found[1])


def shows(page: str, row: models.Model) -> bool:
    return f'href="{change_url(row._meta.label, row.pk)}' in page


@pytest.fixture
def charged(owner: Persona) -> Operation:
    """A settled operation of the owner's, beside one that no link of it leads to."""
    for model in ("other", "mine"):
        charge = Charge(operation=OperationKind.QUERY, token_type=TokenType.LLM, payload={"model": model})
        call = Call(provider="local", model=model, hold_tokens=100, deadline_seconds=60)
        till.hold(owner.ctx, charge, call)
        till.settle(owner.ctx, call.attempt_id, TokenCounts(fresh_input_tokens=10), result={})
    with unit_of_work(owner.ctx):
        return Operation.objects.get(attempts=call.attempt_id)


def row_of(owner: Persona, kind: Any, /, **where: Any) -> Any:
    with unit_of_work(owner.ctx):
        return kind.objects.get(**where)


def test_the_books_lead_from_the_operation_to_the_statistics(
    operator: Client, owner: Persona, charged: Operation
) -> None:
    attempt = row_of(owner, Attempt, operation=charged)
    entry = row_of(owner, Entry, operation_ref=charged)
    operation_url, entry_url = change_url("ledger.operation", charged.pk), change_url("ledger.entry", entry.pk)
    assert shows(follow(operator, operation_url, "attempts"), attempt)
    assert shows(follow(operator, change_url("ledger.attempt", attempt.pk), "entry of the operation"), entry)
    entries = follow(operator, operation_url, "entry")
    assert shows(entries, entry)
    assert not shows(entries, row_of(owner, Entry, model="other"))
    for title, kind in (("daily statistics", UsageDaily), ("monthly statistics", UsageMonthly)):
        page = follow(operator, entry_url, title)
        assert shows(page, row_of(owner, kind, model="mine"))
        assert not shows(page, row_of(owner, kind, model="other"))
    assert shows(follow(operator, entry_url, "budget"), row_of(owner, Budget))


def test_an_entry_leads_to_its_corrections_and_its_price(operator: Client, owner: Persona, charged: Operation) -> None:
    entry = row_of(owner, Entry, operation_ref=charged)
    price = set_price("local", "mine", FREE, actor="ada", tenant=owner.tenant.pk, starts_at=BEGINNING)
    repricing.reprice(repricing.due(owner.tenant.pk, entry.day.replace(day=1)), actor="ada")
    correction = row_of(owner, Entry, corrects=entry)
    corrections = follow(operator, change_url("ledger.entry", entry.pk), "corrections")
    assert shows(corrections, correction)
    assert not shows(corrections, row_of(owner, Entry, model="other"))
    page = text(operator, change_url("ledger.entry", correction.pk))
    assert shows(page, entry)
    assert shows(page, price)


def test_entries_without_a_price_are_listed(operator: Client, owner: Persona, charged: Operation) -> None:
    entry = row_of(owner, Entry, operation_ref=charged)

    def listed() -> bool:
        return shows(text(operator, list_url("ledger.entry", unpriced="yes", tenant=owner.tenant.slug)), entry)

    assert listed()
    adjust(entry.pk, TokenCounts(), cost_usd=Decimal("0.01"), reason="by hand", actor="ada")
    assert not listed()


def test_statistics_and_budget_lead_back_to_the_entries(operator: Client, owner: Persona, charged: Operation) -> None:
    entry = row_of(owner, Entry, operation_ref=charged)
    day, month = row_of(owner, UsageDaily, model="mine"), row_of(owner, UsageMonthly, model="mine")
    assert shows(follow(operator, change_url("ledger.usagedaily", day.pk), "entries of the payer's day"), entry)
    assert shows(follow(operator, change_url("ledger.usagemonthly", month.pk), "entries of the payer's month"), entry)
    assert shows(follow(operator, change_url("ledger.budget", row_of(owner, Budget).pk), "entries"), entry)


@pytest.fixture
def run(owner: Persona) -> Run:
    config = LLMConfig(
        provider="groq", model="llama", temperature=0.4, max_tokens=10, timeout_seconds=60, retry_attempts=3
    )
    ctx = owner.ctx.model_copy(update={"llm_config": config, "config_sources": {"llm_config.model": "header"}})
    with unit_of_work(ctx):
        conversation = Conversation.objects.create(tenant_id=ctx.tenant_id, agent_id=new_id())
        return Run.objects.create(
            tenant_id=ctx.tenant_id,
            owner_tenant_id=ctx.tenant_id,
            payer_tenant_id=ctx.tenant_id,
            agent_id=conversation.agent_id,
            agent_version=1,
            conversation=conversation,
            status=RunStatus.SUCCEEDED,
            question="¿Qué?",
            signed_context=ctx.sign(),
            task_id=str(uuid4()),
        )


def test_a_run_shows_its_configuration_and_where_each_setting_came_from(operator: Client, run: Run) -> None:
    page = text(operator, change_url("agents.run", run.pk))
    assert '"model": "llama"' in page
    assert '"llm_config.model": "header"' in page
    assert run.signed_context not in page


def test_a_run_with_a_context_that_is_not_ours_says_so(operator: Client, owner: Persona, run: Run) -> None:
    with unit_of_work(owner.ctx):
        Run.objects.filter(pk=run.pk).update(signed_context="forged")
    assert "not ours" in text(operator, change_url("agents.run", run.pk))


def test_a_run_leads_to_its_task(operator: Client, run: Run) -> None:
    task = TaskResult.objects.create(task_id=run.task_id)
    assert shows(follow(operator, change_url("agents.run", run.pk), run.task_id), task)


def test_a_dead_letter_leads_to_the_work(operator: Client, owner: Persona, run: Run) -> None:
    with unit_of_work(owner.ctx):
        letter = DeadLetter.objects.create(tenant_id=run.tenant_id, task_name=Run.task_name, row_id=run.pk, reason="?")
    assert str(run.pk) in follow(operator, change_url("core.deadletter", letter.pk), "the run")


def test_a_tenant_leads_to_its_rows(operator: Client, owner: Persona, stranger: Persona, run: Run) -> None:
    assert shows(follow(operator, change_url("tenants.tenant", owner.tenant.pk), "runs"), run)
    assert not shows(follow(operator, change_url("tenants.tenant", stranger.tenant.pk), "runs"), run)


def test_a_row_is_found_by_its_id(operator: Client, run: Run) -> None:
    assert shows(text(operator, list_url("agents.run", q=run.pk)), run)


@pytest.mark.parametrize("term", ["01a1fdcd-0000-7000-8000-000000000000", "word", "12345678901234567890123"])
def test_what_is_no_rows_id_finds_nothing(operator: Client, run: Run, term: str) -> None:
    assert "/change/" not in text(operator, list_url("agents.run", q=term))
    assert "/change/" not in text(operator, list_url("ledger.usagedaily", q=term))


def test_tenants_are_found_by_slug_and_name(operator: Client, owner: Persona) -> None:
    assert shows(text(operator, list_url("tenants.tenant", q=owner.tenant.slug[:10])), owner.tenant)
    assert "/change/" not in text(operator, list_url("tenants.tenant", q="nobody is called this"))


def test_rows_are_filtered_by_tenant(operator: Client, owner: Persona, stranger: Persona, run: Run) -> None:
    for name in (owner.tenant.slug, owner.tenant.pk):
        assert shows(text(operator, list_url("agents.run", tenant=name)), run)
    for name in (stranger.tenant.slug, "nobody"):
        assert not shows(text(operator, list_url("agents.run", tenant=name)), run)


def test_work_is_filtered_by_what_became_of_it(operator: Client, owner: Persona, run: Run) -> None:
    def listed(status: RunStatus, work: str) -> bool:
        with unit_of_work(owner.ctx):
            # Not due for long: a sweeper leaves it alone.
            Run.objects.filter(pk=run.pk).update(status=status, available_at=Now() + timedelta(days=1))
        return shows(text(operator, list_url("agents.run", work=work, tenant=owner.tenant.slug)), run)

    assert listed(RunStatus.GENERATING, "unfinished")
    assert not listed(RunStatus.SUCCEEDED, "unfinished")
    assert listed(RunStatus.FAILED, "failed")
    assert not listed(RunStatus.SUCCEEDED, "failed")


def test_rows_lie_in_their_primary_key_by_age() -> None:
    assert first_id(timedelta(seconds=1)) < new_id() < first_id(timedelta(seconds=-1))


def _searched(page: RecordAdmin) -> set[str]:
    fields = {page.opts.pk.name if name == "pk" else name for name in page.search_fields}
    columns = {page.opts.get_field(name).column for name in fields}
    return columns | {spec.column for spec in page.list_filter if issubclass(spec, TenantFilter)}


@pytest.mark.parametrize(
    "page", [page for page in admin.site._registry.values() if isinstance(page, RecordAdmin)], ids=str
)
def test_what_is_searched_by_leads_an_index(database: None, page: RecordAdmin) -> None:
    rows = fetch_all(
        "SELECT DISTINCT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]"
        " WHERE indrelid = %s::regclass",
        [page.opts.db_table],
    )
    assert _searched(page) <= {row["attname"] for row in rows}


@pytest.mark.parametrize(
    ("model", "parameter", "value", "index"),
    [
        (Run, "work", "unfinished", "run_unfinished"),
        (Document, "work", "unfinished", "document_unfinished"),
        (EmbeddingBatch, "work", "unfinished", "batch_unfinished"),
        (Operation, "pending", "yes", "operation_expired"),
        (Attempt, "holding", "unknown", "attempt_unresolved"),
        (Entry, "unpriced", "yes", "entry_unpriced"),
    ],
)
def test_a_filter_by_state_is_served_by_the_sweepers_index(
    database: None, model: Any, parameter: str, value: str, index: str
) -> None:
    page: Any = admin.site.get_model_admin(model)
    [spec] = [spec for spec in page.list_filter if spec.parameter_name == parameter]
    rows = spec(None, {parameter: [value]}, model, page).queryset(None, model.objects.order_by())
    with operator_scope("test"):
        # Of a table as small as a test's, everything is read at once otherwise.
        execute("SET LOCAL enable_seqscan = off")
        assert index in rows.explain()
