"""The main job with the default provider: facts made up a moment ago are quoted and cited, an absent one is not."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from apps.core.db import fetch_one, unit_of_work
from apps.ledger import till
from apps.ledger.types import TokenCounts
from nooble.processes import Supervisor
from tests.faults.scene import wait_until
from tests.ledger.test_till import admitted, call, charge
from tests.personas import MakeTenant, Persona

SYLLABLES = ["ba", "dor", "fen", "gul", "kim", "lor", "mar", "nix", "pol", "rud", "sav", "tov", "vel", "zan"]


def name(chance: random.Random) -> str:
    return "".join(chance.sample(SYLLABLES, 3)).capitalize()


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """New facts every time; the seed is printed when the test fails."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


def post(persona: Persona, path: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    response = persona.api.post(f"/api/v1{path}", body, format="json", headers=headers)
    assert response.status_code < 300, response.json()
    found: dict[str, Any] = response.json()
    return found


def upload(persona: Persona, collection: str, title: str, text: str) -> str:
    document = post(persona, f"/collections/{collection}/documents", {"name": f"{title}.md", "text": text})
    return str(document["id"])


def wait_until_ready(persona: Persona, document: str) -> None:
    def ready() -> bool:
        shown = persona.api.get(f"/api/v1/documents/{document}").json()
        assert shown["status"] != "failed", shown["error"]
        return bool(shown["status"] == "ready")

    wait_until(ready, seconds=60)


def ask(persona: Persona, agent: str, question: str) -> dict[str, Any]:
    return post(persona, "/chat", {"agent_id": agent, "message": question}, Prefer="wait=60")


def test_facts_made_up_a_moment_ago_are_quoted_and_an_absent_one_is_not(
    owner: Persona, worker: Supervisor, chance: random.Random
) -> None:
    collection = post(owner, "/collections", {"slug": "facts", "name": "Facts"})["id"]
    agent = post(owner, "/agents", {"slug": "facts", "name": "Facts", "rag": {"collections": [collection]}})["id"]
    pumps = {name(chance): (chance.randrange(10, 99), f"{chance.randrange(1000, 9999)}-QX") for _ in range(3)}
    documents = {}
    for pump, (weight, serial) in pumps.items():
        text = (
            f"# The {pump} pump\n\nThe {pump} pump was built for mountain villages. The {pump} pump weighs {weight} "
            f"kilograms. Its serial number is {serial}.\n\nIt should be kept away from frost."
        )
        documents[pump] = upload(owner, collection, pump, text)
    for document in documents.values():
        wait_until_ready(owner, document)

    for pump, (weight, _) in pumps.items():
        run = ask(owner, agent, f"How many kilograms does the {pump} pump weigh?")
        assert run["status"] == "succeeded", run["error"]
        assert f"weighs {weight} kilograms" in run["answer"]
        [citation] = run["citations"]
        assert citation["document_id"] == documents[pump]
        assert f"weighs {weight} kilograms" in citation["quote"]
        check_citation(owner, citation)

    stranger = name(random.Random(str(pumps)))
    run = ask(owner, agent, f"What is the warranty period of the {stranger} turbine?")
    assert (run["status"], run["citations"]) == ("succeeded", [])
    assert stranger not in run["answer"]
    assert "found" in run["answer"]
    check_statement_by_sql(owner, documents=3, questions=4)


def check_citation(persona: Persona, citation: dict[str, Any]) -> None:
    """The chunk that is cited is there, is of the document that is named, and says what is quoted."""
    chunks = persona.api.get(f"/api/v1/documents/{citation['document_id']}/chunks").json()["results"]
    [chunk] = [chunk for chunk in chunks if chunk["id"] == citation["chunk_id"]]
    assert citation["quote"] in chunk["text"]
    assert citation["page"] == chunk["page"]


STATEMENT = """
    SELECT (SELECT count(*) FROM ledger_entry WHERE payer_tenant_id = %(payer)s) AS entries,
           (SELECT sum(fresh_input_tokens + cached_input_tokens + cache_write_tokens + plain_output_tokens
                       + reasoning_tokens) FROM ledger_entry WHERE payer_tenant_id = %(payer)s) AS tokens,
           (SELECT sum(total_tokens) FROM ledger_entry WHERE payer_tenant_id = %(payer)s AND billable) AS billable,
           (SELECT sum(total_tokens) FROM ledger_usagedaily WHERE payer_tenant_id = %(payer)s) AS daily,
           (SELECT sum(entries) FROM ledger_usagedaily WHERE payer_tenant_id = %(payer)s) AS daily_entries,
           (SELECT sum(total_tokens) FROM ledger_usagemonthly WHERE payer_tenant_id = %(payer)s) AS monthly,
           (SELECT sum(spent_tokens) FROM ledger_budget WHERE tenant_id = %(payer)s) AS spent,
           (SELECT sum(held_tokens) FROM ledger_budget WHERE tenant_id = %(payer)s) AS held,
           (SELECT count(*) FROM ledger_operation WHERE payer_tenant_id = %(payer)s AND state <> 'done') AS undone
"""


def check_statement_by_sql(persona: Persona, *, documents: int, questions: int) -> None:
    """The books, added up by SQL of the test's own, and what the API says of them."""
    tenant: UUID = persona.tenant.pk
    with unit_of_work(persona.ctx):
        row = fetch_one(STATEMENT, {"payer": tenant})
    assert row is not None
    assert row["entries"] == row["daily_entries"] == 2 * documents + 2 * questions
    assert row["tokens"] == row["daily"] == row["monthly"]
    assert row["billable"] == row["spent"]
    assert (row["held"], row["undone"]) == (0, 0)
    assert persona.api.get("/api/v1/usage").json()["totals"]["total_tokens"] == row["tokens"]
    assert persona.api.get("/api/v1/budget").json()["spent_tokens"] == row["spent"]


def test_a_conversation_remembers_what_was_said(owner: Persona, worker: Supervisor) -> None:
    agent = post(owner, "/agents", {"slug": "talk", "name": "Talk"})["id"]
    first = ask(owner, agent, "Who are you?")
    body = {"agent_id": agent, "message": "And you?", "conversation_id": first["conversation_id"]}
    second = post(owner, "/chat", body, Prefer="wait=60")
    assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"]
    messages = owner.api.get(f"/api/v1/conversations/{first['conversation_id']}/messages").json()["results"]
    assert [message["author"] for message in messages] == ["user", "assistant"] * 2


def test_a_run_that_the_budget_does_not_cover_costs_nothing_and_says_so(
    make_tenant: MakeTenant, worker: Supervisor
) -> None:
    poor = make_tenant(limit=50, time_zone="Asia/Kolkata")
    spend(poor, 7)
    admitted(till.hold(poor.ctx, charge(), call(12)))
    agent = post(poor, "/agents", {"slug": "poor", "name": "Poor"})["id"]
    run = ask(poor, agent, "What can I afford?")
    assert (run["status"], run["error"]["code"]) == ("failed", "budget_exceeded")
    assert "; of 50 a month 7 are spent and 12 set aside for work in progress." in run["error"]["detail"]
    next_month = month_after(run["created_at"], ZoneInfo("Asia/Kolkata"))
    assert run["error"]["detail"].endswith(f" The budget starts anew at {next_month:%Y-%m-%dT%H:%M:%SZ}.")
    assert len(poor.api.get("/api/v1/usage/entries").json()["results"]) == 1
    assert poor.api.get("/api/v1/budget").json()["spent_tokens"] == 7


def spend(persona: Persona, amount: int) -> None:
    held = admitted(till.hold(persona.ctx, charge(), call(amount)))
    till.settle(persona.ctx, held.attempt_id, TokenCounts(fresh_input_tokens=amount), result={})


def month_after(moment: str, zone: ZoneInfo) -> datetime:
    """When the month of the moment ends in the zone, in UTC."""
    first = datetime.fromisoformat(moment).astimezone(zone).replace(day=1)
    later = first + timedelta(days=31)
    return datetime(later.year, later.month, 1, tzinfo=zone).astimezone(UTC)


def test_the_effective_configuration_says_where_each_setting_came_from(owner: Persona, worker: Supervisor) -> None:
    agent = post(owner, "/agents", {"slug": "cfg", "name": "Cfg", "llm": {"temperature": 0.1}})["id"]
    run = post(
        owner,
        "/chat",
        {"agent_id": agent, "message": "Hello?", "model_preferences": {"max_tokens": 77}},
        Prefer="wait=60",
    )
    config = run["config"]
    assert (config["llm_config"]["temperature"], config["sources"]["llm_config.temperature"]) == (0.1, "agent")
    assert (config["llm_config"]["max_tokens"], config["sources"]["llm_config.max_tokens"]) == (77, "request")
    assert config["sources"]["llm_config.model"] == "deployment"


def test_an_answer_in_a_conversation_says_who_gave_it_and_with_what(owner: Persona, worker: Supervisor) -> None:
    agent = post(owner, "/agents", {"slug": "told", "name": "Told", "llm": {"temperature": 0.1}})["id"]
    run = ask(owner, agent, "Hello?")
    messages = owner.api.get(f"/api/v1/conversations/{run['conversation_id']}/messages").json()["results"]
    assert [message["metadata"] for message in messages] == [
        None,
        {"provider": "local", "model": "extractive", "config": run["config"]},
    ]


def test_sent_twice_with_a_key_a_question_is_answered_once(owner: Persona, worker: Supervisor) -> None:
    agent = post(owner, "/agents", {"slug": "once", "name": "Once"})["id"]
    headers = {"Idempotency-Key": "question-1", "Prefer": "wait=60"}
    first = post(owner, "/chat", {"agent_id": agent, "message": "Hello?"}, **headers)
    second = post(owner, "/chat", {"agent_id": agent, "message": "Hello?"}, **headers)
    assert first == second
    assert len(owner.api.get("/api/v1/runs").json()["results"]) == 1


def test_a_search_finds_and_books_the_question_once_under_its_key(owner: Persona, worker: Supervisor) -> None:
    collection = post(owner, "/collections", {"slug": "s", "name": "S"})["id"]
    wait_until_ready(owner, upload(owner, collection, "a", "The lighthouse keeper feeds the gulls at dawn."))
    path, body = f"/collections/{collection}/search", {"query": "Who feeds the gulls?"}
    first = post(owner, path, body, **{"Idempotency-Key": "search-1"})
    second = post(owner, path, body, **{"Idempotency-Key": "search-1"})
    assert first == second
    assert "lighthouse" in first["results"][0]["text"]
    entries = owner.api.get("/api/v1/usage/entries").json()["results"]
    assert [entry["operation"] for entry in entries].count("vector_search") == 1
