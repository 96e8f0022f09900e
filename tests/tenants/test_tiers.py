"""The four tiers: there from the beginning, edited by operators, and what a request may do is what they say now."""

import json
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.db import IntegrityError, connections
from django.db.models import ProtectedError
from django.forms.models import model_to_dict
from django.test import Client

from apps.core.admin_pages import change_url, list_url
from apps.core.db import operator_scope
from apps.tenants.models import Tier, User
from nooble import queues
from tests.api.test_authentication import check_problem
from tests.personas import MakeTenant, Persona

NAMES = ["free", "advance", "professional", "enterprise"]
#: The tier that these tests edit.
EDITED = "advance"

migration = import_module("apps.tenants.migrations.0003_tiers")


@pytest.fixture
def tier(database: None) -> Iterator[Tier]:
    """A tier as it was seeded, and is again when the test is over: all tests share it."""
    row = Tier.objects.get(pk=EDITED)
    yield Tier.objects.get(pk=EDITED)
    with operator_scope("test"):
        row.save()


@pytest.fixture
def tenant(make_tenant: MakeTenant, tier: Tier) -> Persona:
    return make_tenant(tier=EDITED)


@pytest.fixture
def operator(database: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser(f"operator-{uuid4().hex[:8]}"))
    return client


def edit(operator: Client, tier: Tier, **changes: Any) -> Any:
    """What an operator's browser sends from the tier's page."""
    shown = {name: "" if value is None else value for name, value in model_to_dict(tier).items() if name != "name"}
    return operator.post(
        change_url("tenants.tier", EDITED),
        {**shown, "defaults": json.dumps(tier.defaults), "models_allowed": ",".join(tier.models_allowed), **changes},
    )


def edited(operator: Client, tier: Tier, **changes: Any) -> None:
    response = edit(operator, tier, **changes)
    assert response.status_code == 302, response.context["adminform"].form.errors


def new_agent(tenant: Persona) -> str:
    return str(tenant.api.post("/api/v1/agents", {"slug": "helper", "name": "Helper"}, format="json").json()["id"])


def ask(tenant: Persona, agent: str, message: str = "Hello?", **preferences: Any) -> Any:
    body = {"agent_id": agent, "message": message, "model_preferences": preferences}
    return tenant.api.post("/api/v1/chat", body, format="json")


def test_there_are_four_and_each_has_queues(database: None) -> None:
    assert list(Tier.objects.values_list("name", flat=True)) == NAMES
    assert set(queues.TIERS) == set(NAMES)


def test_a_larger_tier_allows_no_less(database: None) -> None:
    tiers = list(Tier.objects.all())
    for smaller, larger in pairwise(tiers):
        assert smaller.max_output_tokens <= larger.max_output_tokens
        assert smaller.max_upload_bytes <= larger.max_upload_bytes
        for name in ("monthly_token_limit", "requests_per_minute"):
            limits = getattr(smaller, name), getattr(larger, name)
            assert limits[1] is None or (limits[0] is not None and limits[0] < limits[1])


def test_an_edited_size_counts_for_the_next_upload(operator: Client, tier: Tier, tenant: Persona) -> None:
    made = tenant.api.post("/api/v1/collections", {"slug": "notes", "name": "Notes"}, format="json").json()
    path = f"/api/v1/collections/{made['id']}/documents"
    assert tenant.api.post(path, {"name": "a", "text": "eleven byte"}, format="json").status_code == 202
    edited(operator, tier, max_upload_bytes=10)
    refused = tenant.api.post(path, {"name": "b", "text": "byte eleven"}, format="json")
    assert check_problem(refused, 413, "too_large")["limit_bytes"] == 10
    assert tenant.api.post(path, {"name": "c", "text": "ten bytes!"}, format="json").status_code == 202
    edited(operator, tier, max_upload_bytes=11)
    assert tenant.api.post(path, {"name": "b", "text": "byte eleven"}, format="json").status_code == 202


def test_an_edited_length_counts_for_the_next_question(operator: Client, tier: Tier, tenant: Persona) -> None:
    agent = new_agent(tenant)
    assert ask(tenant, agent, "Six...").status_code == 202
    edited(operator, tier, max_question_characters=5)
    check_problem(ask(tenant, agent, "Six..."), 413, "too_large")
    assert ask(tenant, agent, "Five.").status_code == 202


def test_an_edited_length_of_answers_counts_for_the_next_question(
    operator: Client, tier: Tier, tenant: Persona
) -> None:
    agent = new_agent(tenant)
    assert ask(tenant, agent, max_tokens=51).status_code == 202
    edited(operator, tier, max_output_tokens=50)
    check_problem(ask(tenant, agent, max_tokens=51), 400, "invalid_request")
    run = ask(tenant, agent).json()["run_id"]
    config = tenant.api.get(f"/api/v1/runs/{run}").json()["config"]
    assert (config["llm_config"]["max_tokens"], config["sources"]["llm_config.max_tokens"]) == (50, "tier")


def test_edited_defaults_count_for_the_next_question_and_the_next_collection(
    operator: Client, tier: Tier, tenant: Persona
) -> None:
    agent = new_agent(tenant)
    edited(operator, tier, defaults='{"rag_config.max_results": 2, "processing_config.chunk_size": 99}')
    run = ask(tenant, agent).json()["run_id"]
    config = tenant.api.get(f"/api/v1/runs/{run}").json()["config"]
    assert (config["rag_config"]["max_results"], config["sources"]["rag_config.max_results"]) == (2, "tier")
    made = tenant.api.post("/api/v1/collections", {"slug": "notes", "name": "Notes"}, format="json").json()
    assert made["chunk_size"] == 99


def test_an_edited_budget_counts_at_once(operator: Client, tier: Tier, tenant: Persona) -> None:
    assert tenant.api.get("/api/v1/budget").json()["limit_tokens"] == tier.monthly_token_limit
    edited(operator, tier, monthly_token_limit=1234, daily_token_limit=99)
    budget = tenant.api.get("/api/v1/budget").json()
    assert (budget["limit_tokens"], budget["day"]["limit_tokens"]) == (1234, 99)
    edited(operator, tier, monthly_token_limit="", daily_token_limit="")
    budget = tenant.api.get("/api/v1/budget").json()
    assert (budget["limit_tokens"], budget["day"]) == (None, None)


def test_an_edited_number_of_requests_counts_for_the_next_one(operator: Client, tier: Tier, tenant: Persona) -> None:
    edited(operator, tier, requests_per_minute=1)
    assert [tenant.api.get("/api/v1/agents").status_code for _ in range(2)] == [200, 429]
    edited(operator, tier, requests_per_minute="")
    assert [tenant.api.get("/api/v1/agents").status_code for _ in range(2)] == [200, 200]


def test_an_edit_is_of_one_tier(operator: Client, tier: Tier, owner: Persona) -> None:
    agent = new_agent(owner)
    edited(operator, tier, max_question_characters=5)
    assert ask(owner, agent, "More than five.").status_code == 202


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("defaults", value) for value in ("[1]", "7", '"x"', "{", '{"rag_config.max_results": 0}', '{"x": 1}')],
        ("defaults", '{"llm_config.model": "a\\u0000"}'),
        ("defaults", '{"llm_config.temperature": NaN}'),
        ("max_output_tokens", "0"),
        ("max_output_tokens", "-1"),
        ("max_upload_bytes", "-1"),
        ("max_upload_bytes", "0"),
        ("max_question_characters", "0"),
        *[("requests_per_minute", value) for value in ("0", "-1", "many", "0.5")],
        ("max_question_characters", "many"),
        ("monthly_token_limit", "1" * 30),
        ("title", ""),
    ],
)
def test_an_edit_that_requests_would_stumble_over_is_refused(
    operator: Client, tier: Tier, field: str, value: str
) -> None:
    response = edit(operator, tier, **{field: value})
    assert response.status_code == 200
    assert list(response.context["adminform"].form.errors) == [field]
    assert model_to_dict(Tier.objects.get(pk=EDITED)) == model_to_dict(tier)


@pytest.mark.parametrize("nothing", ["", "null", "{}"])
def test_defaults_may_be_emptied(operator: Client, tier: Tier, tenant: Persona, nothing: str) -> None:
    edited(operator, tier, defaults='{"rag_config.max_results": 2}')
    edited(operator, tier, defaults=nothing)
    assert Tier.objects.get(pk=EDITED).defaults == {}
    assert ask(tenant, new_agent(tenant)).status_code == 202


def test_a_tier_keeps_its_name(operator: Client, tier: Tier) -> None:
    edited(operator, tier, name="renamed")
    assert list(Tier.objects.values_list("name", flat=True)) == NAMES


def test_a_tier_is_not_deleted_in_the_admin(operator: Client, tier: Tier) -> None:
    assert (
        operator.post(change_url("tenants.tier", EDITED).replace("change", "delete"), {"post": "yes"}).status_code
        == 403
    )
    operator.post(list_url("tenants.tier"), {"action": "delete_selected", "_selected_action": [EDITED], "post": "yes"})
    assert Tier.objects.filter(pk=EDITED).exists()


def test_a_tier_that_is_in_use_is_not_deleted_by_code_or_by_hand(tier: Tier, tenant: Persona) -> None:
    with operator_scope("test"), pytest.raises(ProtectedError):
        tier.delete()
    # Not even by the owner of the tables; the constraint is deferred, so it is the commit that is refused.
    with pytest.raises(IntegrityError), connections["owner"].cursor() as cursor:
        cursor.execute("DELETE FROM tenants_tier WHERE name = %s", [EDITED])
    assert Tier.objects.filter(pk=EDITED).exists()


def test_seeding_again_changes_no_edit(tier: Tier) -> None:
    owner = connections["owner"]
    Tier.objects.using("owner").filter(pk=EDITED).update(title="Edited", max_upload_bytes=7, monthly_token_limit=None)
    before = list(Tier.objects.values())
    with owner.schema_editor() as editor:
        migration.add(apps, editor)
    assert list(Tier.objects.values()) == before
    assert {row["name"] for row in migration.TIERS} == set(NAMES)


def test_a_tier_without_any_requests_is_refused_whoever_writes_it(tier: Tier) -> None:
    with operator_scope("test"), pytest.raises(IntegrityError, match="tier_requests_per_minute"):
        Tier.objects.filter(pk=EDITED).update(requests_per_minute=0)
    assert Tier.objects.get(pk=EDITED).requests_per_minute == tier.requests_per_minute


def test_a_number_of_requests_that_somebody_has_set_is_not_seeded(tier: Tier) -> None:
    limits = import_module("apps.tenants.migrations.0010_request_limits")
    owner, tiers = connections["owner"], Tier.objects.using("owner")
    for found, seeded in ((7, 7), (None, limits.REQUESTS_PER_MINUTE[EDITED])):
        tiers.filter(pk=EDITED).update(requests_per_minute=found)
        with owner.schema_editor() as editor:
            limits.add(apps, editor)
        assert tiers.get(pk=EDITED).requests_per_minute == seeded


@pytest.mark.parametrize(
    ("defaults", "why"),
    [
        ({"llm_config.provider": "nobody"}, "There is no provider"),
        ({"llm_config.provider": "openai"}, "openai has no model"),
        ({"llm_config.provider": "openai", "llm_config.model": ""}, "openai has no model '' for answers"),
        *[({"fallback_models": [name]}, "fallback_models cannot be set here") for name in ("openai", "openai/", "/x")],
        ({"llm_config.provider": "groq", "llm_config.model": "gpt-4o"}, "groq has no model"),
        ({"embedding_config.provider": "groq"}, "groq makes no vectors"),
        ({"embedding_config.dimensions": 100}, "makes vectors of 64, 128, 256 dimensions, not of 100"),
        ({"llm_config.max_tokens": 5000}, "must be at most 4096 for extractive"),
        ({"llm_config.model": "half \ud800 of a pair"}, "Half a surrogate pair is no text"),
    ],
)
def test_a_tier_with_which_nothing_would_work_is_not_saved(
    operator: Client, tier: Tier, defaults: dict[str, Any], why: str
) -> None:
    response = edit(operator, tier, defaults=json.dumps(defaults))
    assert response.status_code == 200
    [told] = response.context["adminform"].form.errors["defaults"]
    assert why in told


def test_a_plan_has_the_models_that_it_names_and_no_others(operator: Client, tier: Tier, tenant: Persona) -> None:
    agent = new_agent(tenant)
    edited(operator, tier, models_allowed="local/*,groq/llama-3.1-*")
    assert ask(tenant, agent).status_code == 202
    assert ask(tenant, agent, provider="groq", model="llama-3.1-8b-instant").status_code == 202
    refused = ask(tenant, agent, provider="groq", model="openai/gpt-oss-20b")
    assert "groq/llama-3.1-*" in check_problem(refused, 403, "model_not_allowed")["detail"]
    llm = {"provider": "openai", "model": "gpt-4o"}
    body = {"slug": "other", "name": "Other"}
    check_problem(tenant.api.post("/api/v1/agents", {**body, "llm": llm}, format="json"), 403, "model_not_allowed")
    embedding = {"provider": "openai", "model": "text-embedding-3-small", "dimensions": 1536}
    made = tenant.api.post("/api/v1/collections", {**body, "embedding": embedding}, format="json")
    check_problem(made, 403, "model_not_allowed")
    edited(operator, tier, models_allowed="")
    assert ask(tenant, agent, provider="groq", model="openai/gpt-oss-20b").status_code == 202


@pytest.mark.parametrize(
    ("allowed", "missing"),
    [
        ("groq/*", ["local/extractive", "local/wordllama-256"]),
        ("local/extractive", ["local/wordllama-256"]),
        ("local/wordllama-*,openai/*", ["local/extractive"]),
    ],
)
def test_a_plan_has_the_models_that_it_answers_and_embeds_with_itself(
    operator: Client, tier: Tier, allowed: str, missing: list[str]
) -> None:
    errors = edit(operator, tier, models_allowed=allowed).context["adminform"].form.errors
    assert list(errors) == ["models_allowed"]
    told = [told.partition(", which")[0] for told in errors["models_allowed"]]
    assert told == [f"They lack {model}" for model in missing]


def test_a_plan_without_the_deployments_models_names_others_in_its_defaults(operator: Client, tier: Tier) -> None:
    defaults = {
        "llm_config.provider": "groq",
        "llm_config.model": "llama-3.3-70b-versatile",
        "embedding_config.provider": "openai",
        "embedding_config.model": "text-embedding-3-small",
    }
    edited(operator, tier, models_allowed="groq/*,openai/text-*", defaults=json.dumps(defaults))
    tier.refresh_from_db()
    assert (tier.models_allowed, tier.defaults) == (["groq/*", "openai/text-*"], defaults)


def test_the_example_of_a_plans_models_can_be_saved(operator: Client, tier: Tier) -> None:
    text = str(Tier._meta.get_field("models_allowed").help_text)
    example = text.partition("e.g. ")[2].partition(". ")[0]
    edited(operator, tier, models_allowed=example)
    tier.refresh_from_db()
    assert tier.models_allowed == example.split(",") != [""]


def test_an_agent_whose_model_left_the_plan_can_be_changed_in_all_else(
    operator: Client, tier: Tier, tenant: Persona
) -> None:
    body = {"slug": "helper", "name": "Helper", "llm": {"provider": "openai", "model": "gpt-4o"}}
    agent = f"/api/v1/agents/{tenant.api.post('/api/v1/agents', body, format='json').json()['id']}"
    edited(operator, tier, models_allowed="local/*")
    for untouched in ({"prompt": "Be brief."}, {"rag": {"max_results": 3}}, {"llm": {"temperature": 0.1}}):
        assert tenant.api.patch(agent, untouched, format="json").status_code == 200
    assert tenant.api.get(agent).json()["llm"]["model"] == "gpt-4o"
    for judged in ({"llm": {"model": "gpt-4o-mini"}}, {"llm": {"max_tokens": 100}}):
        check_problem(tenant.api.patch(agent, judged, format="json"), 403, "model_not_allowed")
    assert tenant.api.patch(agent, {"llm": {"provider": None, "model": None}}, format="json").status_code == 200
