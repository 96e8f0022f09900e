"""What operators do: each change goes through the service that the API uses, and is noted."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from apps.agents.models import Agent, AgentVersion
from apps.agents.services import create_agent
from apps.collections.documents import Upload, add_document
from apps.collections.models import Collection, Document
from apps.collections.services import create_collection
from apps.collections.types import DocumentStatus
from apps.core.admin_pages import change_url, list_url
from apps.core.db import operator_scope, unit_of_work
from apps.tenants import services
from apps.tenants.errors import InvalidApiKeyError
from apps.tenants.members import invite_member
from apps.tenants.models import ApiKey, Member, Tenant, Tier, User
from tests.admin.test_site import staff
from tests.personas import Persona

KEY_FORM = {"_form_submitted": "on", "name": "from the admin", "scopes": ["chat", "usage"], "expires_at": ""}


def act(browser: Client, label: str, action: str, *keys: Any) -> Any:
    """Run an action on rows of a list; the page that comes after it."""
    form = {"action": action, "_selected_action": [str(key) for key in keys]}
    return browser.post(list_url(label), form, follow=True)


def issue_url(persona: Persona) -> str:
    return change_url("tenants.tenant", persona.tenant.pk).replace("change/", "issue_key/")


def keys_of(persona: Persona) -> list[ApiKey]:
    with unit_of_work(persona.ctx):
        return list(ApiKey.objects.order_by("created_at"))


def test_a_new_key_is_shown_in_the_answer_and_nowhere_else(
    operator: Client, owner: Persona, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    answer = operator.post(issue_url(owner), KEY_FORM)
    key = answer.content.decode().partition("<pre")[2].partition(">")[2].partition("<")[0]
    principal = services.authenticate(key)
    assert (principal.tenant_id, principal.scopes) == (owner.tenant.pk, frozenset({"chat", "usage"}))
    secret = key.split("_")[2]
    assert secret not in str(answer.cookies)
    assert secret not in operator.get(change_url("tenants.tenant", owner.tenant.pk)).content.decode()
    assert secret not in caplog.text
    note = LogEntry.objects.get(object_id=owner.tenant.pk)
    assert "Issued the API key from the admin (nbl_" in note.change_message
    assert secret not in note.change_message


@pytest.mark.parametrize("form", [{}, {"name": "no scopes"}, {**KEY_FORM, "scopes": ["everything"]}])
def test_an_incomplete_form_issues_no_key(operator: Client, owner: Persona, form: dict[str, Any]) -> None:
    assert operator.post(issue_url(owner), form).status_code == 200
    assert len(keys_of(owner)) == 1


def test_a_key_is_not_issued_by_following_a_link(operator: Client, owner: Persona) -> None:
    assert "Issue an API key" in operator.get(issue_url(owner), KEY_FORM).content.decode()
    assert len(keys_of(owner)) == 1


def test_staff_without_permission_issue_and_revoke_no_key(owner: Persona) -> None:
    visitor = staff("view_tenant", "view_apikey")
    assert visitor.post(issue_url(owner), KEY_FORM).status_code == 403
    act(visitor, "tenants.apikey", "revoke", *[key.pk for key in keys_of(owner)])
    assert [key.revoked_at for key in keys_of(owner)] == [None]


def test_a_key_for_a_tenant_that_is_not_there_is_not_found(operator: Client, owner: Persona) -> None:
    url = issue_url(owner).replace(str(owner.tenant.pk), str(User().pk))
    assert operator.post(url, KEY_FORM).status_code == 404


def test_revoked_keys_open_nothing(operator: Client, owner: Persona, stranger: Persona) -> None:
    selected = [*keys_of(owner), *keys_of(stranger)]
    page = act(operator, "tenants.apikey", "revoke", *[key.pk for key in selected])
    assert "Keys that open nothing any more: 2." in page.content.decode()
    for persona in (owner, stranger):
        with pytest.raises(InvalidApiKeyError):
            services.authenticate(persona.key)


def test_a_tenant_is_made_and_limited(operator: Client, owner: Persona) -> None:
    slug = f"{owner.tenant.slug}-2"
    form = {"slug": slug, "name": "Second", "tier": "free", "time_zone": "Europe/Madrid", "is_active": "on"}
    assert operator.post(list_url("tenants.tenant") + "add/", form).status_code == 302
    with operator_scope("test"):
        tenant = Tenant.objects.get(slug=slug)
    limited = {**form, "monthly_token_limit": "5000"}
    assert operator.post(change_url("tenants.tenant", tenant.pk), limited).status_code == 302
    with operator_scope("test"):
        assert Tenant.objects.get(slug=slug).monthly_token_limit == 5000


def test_a_time_zone_that_is_none_is_refused(operator: Client, owner: Persona) -> None:
    form = {"slug": f"{owner.tenant.slug}-2", "name": "Second", "tier": "free", "time_zone": "Mars/Olympus"}
    page = operator.post(list_url("tenants.tenant") + "add/", form)
    assert "is not a time zone" in page.content.decode()


def test_a_tiers_settings_are_checked(operator: Client) -> None:
    fields = {name: value for name, value in Tier.objects.values().get(pk="free").items() if value is not None}
    form = {**fields, "defaults": '{"rag_config.max_results": 100000}'}
    page = operator.post(change_url("tenants.tier", "free"), form)
    assert page.status_code == 200
    assert "rag_config.max_results" in str(page.context["errors"])
    assert Tier.objects.get(pk="free").defaults == {}


def test_tiers_are_neither_added_nor_deleted(operator: Client) -> None:
    assert operator.get(list_url("tenants.tier") + "add/").status_code == 403
    assert operator.post(change_url("tenants.tier", "free").replace("change", "delete")).status_code == 403


def test_a_person_becomes_a_member(operator: Client, owner: Persona, superuser: User) -> None:
    form = {"tenant": owner.tenant.pk, "user": superuser.pk, "role": "admin"}
    assert operator.post(list_url("tenants.member") + "add/", form).status_code == 302
    with unit_of_work(owner.ctx):
        assert Member.objects.get().user_id == superuser.pk


def test_naming_the_account_of_an_invitation_accepts_it(operator: Client, owner: Persona) -> None:
    name = f"ada-{owner.tenant.slug}"
    account = User.objects.create_user(name, f"{name}@nooble.example")
    invited = invite_member(owner.ctx, username="ada", role="admin")
    [waiting] = (
        operator.get(list_url("tenants.member", tenant=owner.tenant.slug, state="invited")).context["cl"].result_list
    )
    assert waiting == invited
    form = {"tenant": owner.tenant.pk, "user": account.pk, "role": "admin"}
    assert operator.post(change_url("tenants.member", invited.pk), form).status_code == 302
    [member] = owner.api.get("/api/v1/members").json()["results"]
    assert (member["username"], member["email"], member["accepted"]) == (name, account.email, True)
    assert (
        not operator.get(list_url("tenants.member", tenant=owner.tenant.slug, state="invited"))
        .context["cl"]
        .result_list
    )


def test_an_operator_is_made_and_can_sign_in(operator: Client, owner: Persona) -> None:
    name, password = f"new-{owner.tenant.slug}", "correct horse battery staple"
    form = {"username": name, "usable_password": "true", "password1": password, "password2": password}
    assert operator.post(list_url("tenants.user") + "add/", form).status_code == 302
    assert Client().login(username=name, password=password)


@pytest.fixture
def collection(owner: Persona) -> Collection:
    return create_collection(owner.ctx, slug="manual", name="Manual", settings={}, tier_defaults={})


def test_a_collection_is_renamed_and_nothing_else(operator: Client, collection: Collection) -> None:
    form = {"name": "Handbook", "slug": "other", "language": "spanish"}
    assert operator.post(change_url("collections.collection", collection.pk), form).status_code == 302
    with operator_scope("test"):
        row = Collection.objects.get(pk=collection.pk)
    assert (row.name, row.slug, row.language) == ("Handbook", "manual", "english")


def test_an_agent_is_renamed_without_a_new_version(operator: Client, owner: Persona) -> None:
    agent = create_agent(owner.ctx, slug="helper", name="Helper")
    assert operator.post(change_url("agents.agent", agent.pk), {"name": "Assistant"}).status_code == 302
    with unit_of_work(owner.ctx):
        row = Agent.objects.get(pk=agent.pk)
        assert (row.name, row.slug, row.version) == ("Assistant", "helper", 1)
        assert AgentVersion.objects.count() == 1


@pytest.fixture
def document(owner: Persona, collection: Collection) -> Document:
    upload = Upload(name="manual.md", data=b"# Manual")
    return add_document(owner.ctx, collection.pk, upload, max_bytes=1000, tier_defaults={}).document


def test_a_failed_document_is_tried_again(operator: Client, owner: Persona, document: Document) -> None:
    with unit_of_work(owner.ctx):
        Document.objects.filter(pk=document.pk).update(status=DocumentStatus.FAILED, error_code="unreadable")
    page = act(operator, "collections.document", "retry", document.pk)
    assert "manual.md: is tried again." in page.content.decode()
    with unit_of_work(owner.ctx):
        row = Document.objects.get(pk=document.pk)
    assert row.status != DocumentStatus.FAILED
    assert row.error_code == ""
    assert LogEntry.objects.get(object_id=document.pk).change_message == "Tried again."


def test_a_document_that_has_not_failed_is_left_alone(operator: Client, document: Document) -> None:
    page = act(operator, "collections.document", "retry", document.pk)
    assert "manual.md: The document is pending." in page.content.decode()


def test_staff_without_permission_try_nothing_again(owner: Persona, document: Document) -> None:
    with unit_of_work(owner.ctx):
        Document.objects.filter(pk=document.pk).update(status=DocumentStatus.FAILED)
    act(staff("view_document"), "collections.document", "retry", document.pk)
    with unit_of_work(owner.ctx):
        assert Document.objects.get(pk=document.pk).status == DocumentStatus.FAILED
