"""Every model has its pages, and they open as quickly over a thousand rows as over three."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.core.admin_pages import OperatorAdmin, RecordAdmin, change_url, list_url
from apps.core.db import operator_scope
from nooble import navigation
from tests.admin.rows import COUNT, HIDDEN_HASH, HIDDEN_NUMBER

#: Session, user, BEGIN, SET ROLE, the rows, COMMIT, and a few for filters and the page's own row.
MOST_QUERIES = 12
#: Nothing an operator could do with them: lists that Django keeps for itself, sessions, and groups of tasks, which
#: nooble does not use.
WITHOUT_PAGES = {
    *("auth.Permission", "contenttypes.ContentType", "sessions.Session"),
    *("django_celery_results.ChordCounter", "django_celery_results.GroupResult", "django_celery_beat.PeriodicTasks"),
}
PER_PAGE = OperatorAdmin.list_per_page
#: There are four, and they are not made in the admin.
FEW = {"tenants.Tier"}

MODELS = sorted(admin.site._registry, key=lambda model: model._meta.label)
#: Rows that are only shown: what work leaves behind, in tables that may be large.
RECORDS = [model for model in MODELS if isinstance(admin.site.get_model_admin(model), RecordAdmin)]
EACH_MODEL = pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)


def queries(client: Client, url: str) -> tuple[list[str], str]:
    """The statements that a page takes, and the page."""
    with CaptureQueriesContext(connection) as captured:
        response = client.get(url)
    assert response.status_code == 200, url
    return [query["sql"] for query in captured], response.content.decode()


def keys(model: Any, count: int) -> list[object]:
    with operator_scope("test"):
        return list(model._default_manager.order_by("-pk").values_list("pk", flat=True)[:count])


def test_every_model_has_pages() -> None:
    assert {model._meta.label for model in apps.get_models()} - {model._meta.label for model in MODELS} == WITHOUT_PAGES


def test_every_page_stands_in_the_sidebar() -> None:
    listed = [label for room in navigation.ROOMS.values() for label in room]
    assert sorted(listed) == sorted(model._meta.label_lower for model in MODELS)


@EACH_MODEL
def test_a_list_takes_as_many_queries_for_a_thousand_rows_as_for_three(
    planted: None, operator: Client, model: Any
) -> None:
    few = keys(model, 3)
    key = f"{model._meta.pk.name}__in"
    assert len(keys(model, COUNT)) == COUNT or model._meta.label in FEW, (
        f"Add {model._meta.label} to tests/admin/rows.py."
    )
    for_few, short = queries(operator, list_url(model._meta.label, **{key: ",".join(map(str, few))}))
    for_many, page = queries(operator, list_url(model._meta.label))
    assert len(for_few) == len(for_many) <= MOST_QUERIES
    assert short.count('class="action-select') <= page.count('class="action-select')
    assert HIDDEN_HASH not in page
    assert str(HIDDEN_NUMBER) not in page


@EACH_MODEL
def test_the_page_of_a_row_takes_few_queries(planted: None, operator: Client, model: Any) -> None:
    [key] = keys(model, 1)
    taken, page = queries(operator, change_url(model._meta.label, key))
    assert len(taken) <= MOST_QUERIES
    assert HIDDEN_HASH not in page
    assert str(HIDDEN_NUMBER) not in page


@pytest.mark.parametrize("model", RECORDS, ids=lambda model: model._meta.label)
def test_the_list_of_a_large_table_does_not_count_it(planted: None, operator: Client, model: Any) -> None:
    taken, _ = queries(operator, list_url(model._meta.label))
    assert not [sql for sql in taken if "COUNT(" in sql]


def test_what_is_hidden_cannot_be_asked_for_in_the_address(planted: None, operator: Client) -> None:
    assert operator.get(list_url("tenants.apikey", secret_hash__startswith=HIDDEN_HASH[0])).status_code == 400
