"""Who may enter, what they see there, and what an error leaves behind."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.db import ProgrammingError
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import Client, RequestFactory

from apps.core.admin_pages import change_url, list_url
from apps.core.db import execute, fetch_one, operator_scope
from apps.ledger.models import Price
from apps.tenants.models import Tenant, User
from tests.admin.test_pages import EACH_MODEL, MODELS, RECORDS, keys
from tests.personas import Persona

PASSWORD = "correct horse battery staple"


def staff(*permissions: str) -> Client:
    """A browser in which a member of staff with these permissions is signed in."""
    user = User.objects.create_user(f"staff-{uuid4().hex[:8]}", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@EACH_MODEL
def test_who_is_not_staff_is_sent_to_the_login(database: None, model: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "apps.core.db")
    member = Client()
    member.force_login(User.objects.create_user(f"member-{uuid4().hex[:8]}"))
    for visitor in (Client(), member):
        response = visitor.get(list_url(model._meta.label))
        assert response.status_code == 302
        assert response["Location"].startswith("/admin/login/")
    assert "operator scope opened" not in caplog.messages


def test_an_operator_signs_in_and_out(database: None) -> None:
    name = f"operator-{uuid4().hex[:8]}"
    User.objects.create_superuser(name, password=PASSWORD)
    browser = Client()
    assert browser.post("/admin/login/", {"username": name, "password": PASSWORD}).status_code == 302
    assert browser.get("/admin/").status_code == 200
    assert browser.post("/admin/logout/").status_code == 200
    assert browser.get("/admin/").status_code == 302


def test_an_operator_sees_the_rows_of_every_tenant(operator: Client, owner: Persona, stranger: Persona) -> None:
    page = operator.get(list_url("tenants.apikey")).content.decode()
    assert change_url("tenants.tenant", owner.tenant.pk) in page
    assert change_url("tenants.tenant", stranger.tenant.pk) in page


def test_every_page_says_in_the_log_who_opened_it(
    operator: Client, superuser: User, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "apps.core.db")
    operator.get(list_url("ledger.entry"))
    reasons = [getattr(record, "reason", "") for record in caplog.records]
    assert reasons == [f"admin: {superuser.username} GET /admin/ledger/entry/"]


def test_staff_see_what_they_have_permission_for(database: None) -> None:
    visitor = staff("view_entry")
    page = visitor.get(list_url("ledger.entry"))
    assert page.status_code == 200
    assert list_url("ledger.budget") not in page.content.decode()
    assert visitor.get(list_url("ledger.budget")).status_code == 403


def raising(request: HttpRequest) -> HttpResponse:
    add_tenant(request)
    raise RuntimeError("the view failed")


def failing_to_render(request: HttpRequest) -> TemplateResponse:
    add_tenant(request)
    return TemplateResponse(request, engines["django"].from_string("{{ fail }}"), {"fail": _fail})


def _fail() -> None:
    raise RuntimeError("the template failed")


def succeeding(request: HttpRequest) -> HttpResponse:
    add_tenant(request)
    return HttpResponse()


def add_tenant(request: HttpRequest) -> None:
    Tenant.objects.create(slug=request.GET["slug"], name="Test", tier_id="free")


def visit(view: Callable[[HttpRequest], Any], superuser: User) -> bool:
    """Open a page that adds a tenant; whether there is one afterwards."""
    slug = f"t-{uuid4().hex[:8]}"
    request = RequestFactory().get("/admin/", {"slug": slug})
    request.user = superuser
    with suppress(RuntimeError):
        admin.site.admin_view(view)(request)
    with operator_scope("test"):
        return Tenant.objects.filter(slug=slug).exists()


def test_a_page_that_succeeds_keeps_what_it_did(superuser: User) -> None:
    assert visit(succeeding, superuser)


@pytest.mark.parametrize("view", [raising, failing_to_render])
def test_a_page_that_fails_undoes_what_it_did(view: Callable[[HttpRequest], Any], superuser: User) -> None:
    assert not visit(view, superuser)


UNCHANGEABLE = [model for model in RECORDS if not admin.site.get_model_admin(model).editable]  # type: ignore[attr-defined]


def test_the_books_are_records() -> None:
    books = {model for model in MODELS if model._meta.app_label == "ledger"}
    assert len(books) >= 6
    # Prices are no record of what happened: operators set them.
    assert books - {Price} <= set(UNCHANGEABLE)


@pytest.mark.parametrize("model", UNCHANGEABLE, ids=lambda model: model._meta.label)
def test_a_record_can_be_neither_added_nor_changed_nor_deleted(planted: None, operator: Client, model: Any) -> None:
    [key] = keys(model, 1)
    change = change_url(model._meta.label, key)
    before = row_as_text(model, key)
    for url in (change.replace("change", "delete"), list_url(model._meta.label) + "add/"):
        assert operator.get(url).status_code == 403, url
        assert operator.post(url, {"post": "yes"}).status_code == 403, url
    assert operator.post(change, {"state": "failed"}).status_code == 403
    operator.post(list_url(model._meta.label), {"action": "delete_selected", "_selected_action": key, "post": "yes"})
    assert row_as_text(model, key) == before


def row_as_text(model: Any, key: Any) -> Any:
    table, column = model._meta.db_table, model._meta.pk.column
    with operator_scope("test"):
        return fetch_one(f"SELECT t::text AS row FROM {table} t WHERE {column} = %s", [key])


def test_even_the_operators_role_cannot_change_an_entry(planted: None) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"), operator_scope("test"):
        execute("UPDATE ledger_entry SET total_tokens = 0")
