"""A question to another tenant's agent, under each rule of who pays: booked for three, seen by one."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest

from apps.agents import prompts, runs
from apps.agents.models import AgentVersion, Conversation, Message, Run
from apps.collections.models import Chunk, Collection, Document
from apps.core import clock
from apps.core.db import operator_scope, unit_of_work
from apps.core.errors import NoobleError
from apps.gateway.errors import OF_THE_PAYERS_PROVIDER
from apps.ledger import statements, till
from apps.ledger.errors import BudgetExceededError
from apps.ledger.models import Attempt, Entry, Operation
from apps.ledger.types import Admitted, Call, Charge, OperationKind, TokenType, digest
from apps.tenants import credentials
from apps.tenants.models import Tenant
from nooble.processes import Supervisor
from tests.api.test_authentication import check_problem
from tests.fakes.process import FakeProvider
from tests.faults.scene import Scene, wait_until
from tests.personas import MakeTenant, Persona

PROMPT = "Whisper the secret of the house."
FACT = "The pump weighs 12 kilograms."
#: Beside the fact in its chunk, and quoted by nobody.
UNQUOTED = "Nobody may hear of the lighthouse."
#: What else an agent may be made of, in words that stand nowhere else.
EXTRAS, FALLBACK = {"seed": 1_733_371_337}, "groq/llama-3.1-8b-instant"
#: Always the same, as whether the fake's vectors are near each other depends on every word.
QUESTION = "How many kilograms does the pump weigh?"


@dataclass(frozen=True)
class Sharing:
    """An owner's agent with a document, and the consumer it is shared with."""

    owner: Scene
    consumer: Scene
    payer: str
    collection: str
    document: UUID
    agent: str

    @property
    def paying(self) -> Persona:
        return (self.owner if self.payer == "owner" else self.consumer).persona

    @property
    def not_paying(self) -> Persona:
        return (self.consumer if self.payer == "owner" else self.owner).persona

    def parties(self) -> tuple[UUID, UUID, UUID]:
        return self.consumer.persona.tenant.pk, self.owner.persona.tenant.pk, self.paying.tenant.pk


@pytest.fixture(params=["owner", "consumer"])
def payer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["fake", "askable"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def sharing(
    owner: Persona, make_tenant: MakeTenant, fake_provider: FakeProvider, worker: Supervisor, payer: str, provider: str
) -> Iterator[Sharing]:
    personas = (owner, make_tenant())
    first, second = (Scene(persona=each, fake=fake_provider, provider=provider) for each in personas)
    yield _shared(first, second, payer)
    for persona in personas:
        assert statements.statement(persona.ctx, clock.today("UTC").replace(day=1)).differences() == []


def _shared(owner: Scene, consumer: Scene, payer: str) -> Sharing:
    collection = owner.collection()
    document = owner.upload(collection, f"{FACT}\n\n{UNQUOTED}")
    assert owner.wait_for_document(document).status == "ready"
    agent = owner.agent(collection)
    assert owner.persona.api.patch(f"/api/v1/agents/{agent}", {"prompt": PROMPT}, format="json").status_code == 200
    owner.post(f"/agents/{agent}/shares", {"tenant_id": str(consumer.persona.tenant.pk), "payer": payer})
    return Sharing(owner=owner, consumer=consumer, payer=payer, collection=collection, document=document, agent=agent)


def budget(persona: Persona) -> dict[str, Any]:
    found: dict[str, Any] = persona.api.get("/api/v1/budget").json()
    return found


def used(persona: Persona, role: str, **query: str) -> dict[str, Any]:
    found: dict[str, Any] = persona.api.get("/api/v1/usage", {"role": role, **query}).json()
    return found


def total(persona: Persona, role: str) -> int:
    return int(used(persona, role)["totals"]["total_tokens"])


def limit(persona: Persona, tokens: int) -> None:
    with operator_scope("test"):
        Tenant.objects.filter(pk=persona.tenant.pk).update(monthly_token_limit=tokens)


def entries_of(persona: Persona, run_id: UUID) -> list[Entry]:
    with unit_of_work(persona.ctx):
        return list(Entry.objects.filter(run_id=run_id).order_by("id"))


def ask_through_faults(sharing: Sharing) -> Run:
    """A question whose task comes five times, whose embedding is refused once and whose first answer is lost."""
    scene = sharing.consumer
    scene.fake.fail("429", retry_after_ms="1", match={"path": "embeddings", "contains": QUESTION})
    scene.fake.fail("drop", match={"path": "chat", "contains": QUESTION})
    run_id = scene.ask(sharing.agent, QUESTION)
    with unit_of_work(scene.persona.ctx):
        item = Run.objects.get(pk=run_id)
        for _ in range(4):
            item.publish()
    run = scene.wait_for_run(run_id)
    assert (run.status, run.error_detail) == ("succeeded", "")
    return run


def test_every_row_names_the_three_and_the_payer_alone_pays(sharing: Sharing, provider: str) -> None:
    before = {persona.tenant.pk: budget(persona) for persona in (sharing.paying, sharing.not_paying)}
    run = ask_through_faults(sharing)

    entries = entries_of(sharing.consumer.persona, run.pk)
    assert sorted(entry.operation for entry in entries) == ["chat", "query"]
    attempts = sharing.consumer.attempts()
    states = {(each.model, each.state) for each in attempts}
    lost_answer = set() if provider == "askable" else {("fake-chat", "unknown")}
    embedding = {("fake-embedding", "void"), ("fake-embedding", "settled")}
    assert states == {("fake-chat", "settled")} | embedding | lost_answer
    with unit_of_work(sharing.consumer.persona.ctx):
        operations = list(Operation.objects.all())
    assert len(operations) == 2
    rows: list[Any] = [run, *entries, *attempts, *operations]
    for row in rows:
        assert (row.tenant_id, row.owner_tenant_id, row.payer_tenant_id) == sharing.parties()

    spent = sum(entry.total_tokens for entry in entries)
    held = sum(each.held_tokens for each in attempts)
    assert bool(held) == bool(lost_answer)
    now = budget(sharing.paying)
    assert now["spent_tokens"] - before[sharing.paying.tenant.pk]["spent_tokens"] == spent
    assert now["held_tokens"] == now["unknown_tokens"] == held
    assert budget(sharing.not_paying) == before[sharing.not_paying.tenant.pk]
    check_tally(sharing, attempts, spent)


def check_tally(sharing: Sharing, attempts: list[Attempt], spent: int) -> None:
    """What was booked, and what is in doubt, is what the provider counted."""
    counted = {line["request_id"]: line["total"] for line in sharing.consumer.fake.tally()}
    settled = [each for each in attempts if each.state == "settled"]
    assert sum(counted[str(each.pk)] for each in settled) == spent
    for each in attempts:
        if each.state == "unknown":
            assert counted[str(each.pk)] <= each.held_tokens


@pytest.mark.parametrize("provider", ["fake"], indirect=True)
def test_each_of_the_three_finds_the_usage_under_its_role(sharing: Sharing) -> None:
    owner, consumer = sharing.owner.persona, sharing.consumer.persona
    ingested = total(owner, "owner")
    assert ingested > 0
    run = ask_through_faults(sharing)
    spent = sum(entry.total_tokens for entry in entries_of(consumer, run.pk))

    assert total(consumer, "consumer") == spent
    assert total(consumer, "owner") == 0
    assert total(owner, "owner") == ingested + spent
    assert total(owner, "consumer") == ingested
    assert total(sharing.paying, "payer") == spent + (ingested if sharing.payer == "owner" else 0)
    assert total(sharing.not_paying, "payer") == (0 if sharing.payer == "owner" else ingested)

    by_consumer = {row["consumer"]: row["total_tokens"] for row in used(owner, "owner", group_by="consumer")["results"]}
    assert by_consumer == {str(owner.tenant.pk): ingested, str(consumer.tenant.pk): spent}
    for persona in (owner, consumer):
        shown = persona.api.get("/api/v1/usage/entries").json()["results"]
        assert {row["id"] for row in shown} >= {str(entry.pk) for entry in entries_of(consumer, run.pk)}
    check_ingestion_is_the_owners(sharing)


def check_ingestion_is_the_owners(sharing: Sharing) -> None:
    owner = sharing.owner.persona.tenant.pk
    own = [entry for entry in sharing.owner.entries() if entry.document_id == sharing.document]
    assert {entry.operation for entry in own} == {"internal", "batch"}
    assert {party for each in own for party in (each.tenant_id, each.owner_tenant_id, each.payer_tenant_id)} == {owner}
    assert not [entry for entry in sharing.consumer.entries() if entry.document_id]


@pytest.mark.parametrize("provider", ["fake"], indirect=True)
def test_neither_sees_what_is_the_others(sharing: Sharing) -> None:
    run = ask_through_faults(sharing)
    check_hidden_from_the_owner(sharing, run)
    check_hidden_from_the_consumer(sharing, run)


def check_hidden_from_the_owner(sharing: Sharing, run: Run) -> None:
    api, ctx = sharing.owner.persona.api, sharing.owner.persona.ctx
    for path in ("runs", "conversations"):
        assert api.get(f"/api/v1/{path}").json()["results"] == []
    check_problem(api.get(f"/api/v1/runs/{run.pk}"), 404, "run_not_found")
    check_problem(api.post(f"/api/v1/runs/{run.pk}/cancel"), 404, "run_not_found")
    check_problem(api.get(f"/api/v1/conversations/{run.conversation_id}"), 404, "conversation_not_found")
    check_problem(api.get(f"/api/v1/conversations/{run.conversation_id}/messages"), 404, "conversation_not_found")
    seen = "".join(api.get(f"/api/v1/{path}").content.decode() for path in ("usage/entries", "usage", "agents"))
    assert run.question not in seen
    assert run.answer not in seen
    # A hash of the question alone, or of what the owner knows, would tell whether a guess is right.
    for entry in entries_of(sharing.owner.persona, run.pk):
        assert not entry.metadata.get("text_hash")
        assert not entry.metadata.get("message_id")
        known = {"run": run.pk, "question": run.question, "agent": run.agent_id, "version": run.agent_version}
        assert entry.payload_hash != digest(known)
    with unit_of_work(ctx):
        assert not Run.objects.exists()
        assert not Conversation.objects.exists()
        assert not Message.objects.exists()
        # The answer's text and the question's vector are kept with the operation, whoever pays for it.
        assert not Operation.objects.filter(tenant_id=run.tenant_id).exists()
        assert Attempt.objects.filter(tenant_id=run.tenant_id).exists() == (sharing.payer == "owner")
        assert Entry.objects.filter(run_id=run.pk).count() == 2


def check_hidden_from_the_consumer(sharing: Sharing, run: Run) -> None:
    api, ctx = sharing.consumer.persona.api, sharing.consumer.persona.ctx
    here = f"/api/v1/collections/{sharing.collection}"
    assert api.get("/api/v1/collections").json()["results"] == []
    check_problem(api.get(here), 404, "collection_not_found")
    check_problem(api.get(f"{here}/documents"), 404, "collection_not_found")
    check_problem(api.post(f"{here}/documents", {"name": "a", "text": "b"}, format="json"), 404, "collection_not_found")
    check_problem(api.post(f"{here}/search", {"query": "pump"}, format="json"), 404, "collection_not_found")
    check_problem(api.get(f"/api/v1/documents/{sharing.document}"), 404, "document_not_found")
    check_problem(api.get(f"/api/v1/documents/{sharing.document}/chunks"), 404, "document_not_found")
    addresses = [f"runs/{run.pk}", "runs", f"conversations/{run.conversation_id}/messages", "usage/entries"]
    addresses += [f"agents/{sharing.agent}", "agents?shared=true", "usage"]
    seen = "".join(api.get(f"/api/v1/{path}").content.decode() for path in addresses)
    shown = api.get(f"/api/v1/runs/{run.pk}").json()
    assert [citation["quote"] for citation in shown["citations"]] == [FACT]
    said = api.get(f"/api/v1/conversations/{run.conversation_id}/messages").json()["results"]
    assert said[-1]["metadata"]["config"] == shown["config"]
    assert PROMPT not in seen
    assert UNQUOTED not in seen
    # The model was given both.
    sent = str(sharing.consumer.fake.arrivals())
    assert PROMPT in sent
    assert UNQUOTED in sent
    with unit_of_work(ctx):
        assert Run.objects.get().passages is None
        for model in (AgentVersion, Collection, Document, Chunk):
            assert not model.objects.exists()


@pytest.mark.parametrize("provider", ["fake"], indirect=True)
@pytest.mark.parametrize("payer", ["owner"], indirect=True)
def test_of_a_runs_configuration_the_guest_is_not_shown_what_the_agent_is_made_of(sharing: Sharing) -> None:
    made_of = {"llm": {"extras": EXTRAS}, "fallback_models": [FALLBACK]}
    assert sharing.owner.persona.api.patch(f"/api/v1/agents/{sharing.agent}", made_of, format="json").status_code == 200
    run = sharing.consumer.wait_for_run(sharing.consumer.ask(sharing.agent, QUESTION))
    assert run.context.llm_config is not None
    assert (run.context.llm_config.extras, run.context.fallback_models) == (EXTRAS, (FALLBACK,))

    api = sharing.consumer.persona.api
    messages = f"conversations/{run.conversation_id}/messages"
    seen = "".join(api.get(f"/api/v1/{path}").content.decode() for path in (f"runs/{run.pk}", "runs", messages))
    for hidden in (sharing.collection, FALLBACK, *EXTRAS, *map(str, EXTRAS.values())):
        assert hidden not in seen
    config = api.get(f"/api/v1/runs/{run.pk}").json()["config"]
    assert (config["llm_config"]["provider"], config["llm_config"]["model"]) == ("fake", "fake-chat")
    assert config["rag_config"] == {"collections": [], "max_results": 5, "query_expansion_enabled": False}
    assert config["sources"]["llm_config.extras"] == config["sources"]["fallback_models"] == "agent"

    own = sharing.owner.wait_for_run(sharing.owner.ask(sharing.agent, QUESTION))
    config = sharing.owner.persona.api.get(f"/api/v1/runs/{own.pk}").json()["config"]
    assert (config["llm_config"]["extras"], config["fallback_models"]) == (EXTRAS, [FALLBACK])
    assert [each["collection_id"] for each in config["rag_config"]["collections"]] == [sharing.collection]


@pytest.mark.parametrize("provider", ["fake"], indirect=True)
def test_of_a_question_that_is_reworded_the_owner_sees_what_it_cost(sharing: Sharing) -> None:
    change = {"rag": {"query_expansion_enabled": True}}
    assert sharing.owner.persona.api.patch(f"/api/v1/agents/{sharing.agent}", change, format="json").status_code == 200
    wording = "What is the mass of the pump?"
    asked = {"path": "chat", "contains": prompts.REWORDING_PROMPT[:40]}
    sharing.consumer.fake.fail("finish", text=f"- {wording}", reason="stop", match=asked)
    run = sharing.consumer.wait_for_run(sharing.consumer.ask(sharing.agent, QUESTION))

    assert (run.status, run.error_detail) == ("succeeded", "")
    assert wording in str(sharing.consumer.fake.arrivals()[-2]["body"]["input"])
    entries = entries_of(sharing.owner.persona, run.pk)
    assert [entry.operation for entry in entries] == ["generation", "query", "chat"]
    for entry in entries:
        assert (entry.tenant_id, entry.owner_tenant_id, entry.payer_tenant_id) == sharing.parties()
        assert entry.metadata.keys().isdisjoint({"text_hash", "message_id"})
    assert wording not in sharing.owner.persona.api.get("/api/v1/usage/entries").content.decode()
    with unit_of_work(sharing.owner.persona.ctx):
        # Which has the wordings.
        assert not Operation.objects.filter(run_id=run.pk).exists()


@pytest.mark.parametrize("provider", ["fake"], indirect=True)
def test_what_an_owner_asks_itself_keeps_what_was_found(sharing: Sharing) -> None:
    run = sharing.owner.wait_for_run(sharing.owner.ask(sharing.agent, QUESTION))
    assert [UNQUOTED in passage["text"] for passage in run.passages or []] == [True]
    owner = sharing.owner.persona.tenant.pk
    assert (run.tenant_id, run.owner_tenant_id, run.payer_tenant_id) == (owner, owner, owner)


@pytest.mark.parametrize("provider", ["fake"], indirect=True)
def test_the_payers_budget_refuses_and_the_others_is_not_asked(sharing: Sharing) -> None:
    limit(sharing.not_paying, 1)
    assert sharing.consumer.wait_for_run(sharing.consumer.ask(sharing.agent, "Once?")).status == "succeeded"

    spent = budget(sharing.paying)["spent_tokens"]
    limit(sharing.paying, spent + 1)
    run_id = sharing.consumer.ask(sharing.agent, "And a second time?")
    run = sharing.consumer.wait_for_run(run_id)
    assert (run.status, run.error_code) == ("failed", "budget_exceeded")
    assert entries_of(sharing.consumer.persona, run_id) == []
    now = budget(sharing.paying)
    assert (now["spent_tokens"], now["held_tokens"]) == (spent, 0)
    # How the owner's budget stands is nothing the consumer may know.
    assert (str(spent + 1) in run.error_detail) == (sharing.payer == "consumer")
    assert "budget" in run.error_detail


def kinds_of(error: type[NoobleError]) -> list[type[NoobleError]]:
    return [error, *(each for kind in error.__subclasses__() for each in kinds_of(kind))]


#: How a payer stands with its provider, and with its budget.
OF_THE_PAYER: list[type[NoobleError]] = [
    BudgetExceededError,
    *(kind for error in OF_THE_PAYERS_PROVIDER for kind in kinds_of(error)),
]


@pytest.mark.parametrize("code", sorted({error.code for error in OF_THE_PAYER} | {"context_too_long", "work_failed"}))
def test_the_operation_keeps_no_more_for_the_consumer_than_the_run_tells(
    owner: Persona, stranger: Persona, code: str
) -> None:
    paid_by_owner = dict.fromkeys(("owner_tenant_id", "payer_tenant_id"), owner.tenant.pk)
    for ctx in (stranger.ctx, stranger.ctx.model_copy(update=paid_by_owner)):
        charge = Charge(operation=OperationKind.CHAT, token_type=TokenType.LLM, payload={"question": str(uuid4())})
        held = till.hold(ctx, charge, Call(provider="fake", model="m", hold_tokens=10, deadline_seconds=30))
        assert isinstance(held, Admitted)
        till.fail(ctx, held.operation_id, epoch=held.epoch, code=code, detail="why")
        with unit_of_work(ctx):
            kept = Operation.objects.get(pk=held.operation_id).error_detail
        is_told = ctx.payer_tenant_id == ctx.tenant_id or code in {"context_too_long", "work_failed"}
        assert kept == ("why" if is_told else "")


@pytest.mark.parametrize("provider", ["fake"], indirect=True)
def test_how_the_payer_stands_with_its_provider_is_nothing_the_consumer_hears_of(sharing: Sharing) -> None:
    said = "Your credit balance is too low. org-4242"
    sharing.consumer.fake.fail("400", match={"path": "chat"}, message=said)
    run = sharing.consumer.wait_for_run(sharing.consumer.ask(sharing.agent, QUESTION))
    assert (run.status, run.error_code) == ("failed", "provider_refused")
    with unit_of_work(sharing.consumer.persona.ctx):
        [operation] = Operation.objects.filter(run_id=run.pk, state="failed")
    for told in (run.error_detail, operation.error_detail):
        assert ("org-4242" in told) == (sharing.payer == "consumer")


@pytest.mark.parametrize("provider", ["fake"], indirect=True)
def test_the_payers_key_is_nothing_the_consumer_hears_of(sharing: Sharing) -> None:
    credentials.store(sharing.paying.ctx, provider="fake", secret="sk-the-payers-own-key-0000")
    sharing.consumer.fake.fail("401", match={"path": "chat"})
    run = sharing.consumer.wait_for_run(sharing.consumer.ask(sharing.agent, QUESTION))
    assert (run.status, run.error_code) == ("failed", "provider_authentication")
    assert ("(401)" in run.error_detail) == (sharing.payer == "consumer")
    assert ("ask the owner" in run.error_detail) == (sharing.payer == "owner")
    with unit_of_work(sharing.consumer.persona.ctx):
        [operation] = Operation.objects.filter(run_id=run.pk, state="failed")
    assert ("(401)" in operation.error_detail) == (sharing.payer == "consumer")


@pytest.mark.parametrize("provider", ["fake"], indirect=True)
def test_a_run_that_has_begun_ends_as_it_began_after_its_share_is_revoked(sharing: Sharing) -> None:
    sharing.consumer.fake.fail("hold", match={"path": "chat", "contains": QUESTION})
    run_id = sharing.consumer.ask(sharing.agent, QUESTION)
    wait_until(lambda: _is_asked(sharing), seconds=30)

    path = f"/api/v1/agents/{sharing.agent}/shares"
    [share] = sharing.owner.persona.api.get(path).json()["results"]
    assert sharing.owner.persona.api.delete(f"{path}/{share['id']}").status_code == 204
    body = {"agent_id": sharing.agent, "message": "And now?"}
    check_problem(sharing.consumer.persona.api.post("/api/v1/chat", body, format="json"), 404, "agent_not_found")
    sharing.consumer.fake.release()

    run = sharing.consumer.wait_for_run(run_id)
    assert (run.status, run.error_detail) == ("succeeded", "")
    for entry in entries_of(sharing.consumer.persona, run_id):
        assert (entry.tenant_id, entry.owner_tenant_id, entry.payer_tenant_id) == sharing.parties()


@pytest.mark.parametrize("provider", ["fake"], indirect=True)
def test_a_shared_run_whose_worker_is_killed_is_driven_again_for_the_same_three(
    sharing: Sharing, worker: Supervisor
) -> None:
    sharing.consumer.fake.fail("stall", seconds=3, match={"path": "chat", "contains": QUESTION})
    run_id = sharing.consumer.ask(sharing.agent, QUESTION)
    wait_until(lambda: _is_asked(sharing), seconds=30)
    os.kill(worker.process_ids()["worker"], signal.SIGKILL)

    run = sharing.consumer.wait_for_run(run_id)
    assert (run.status, run.error_detail, run.deliveries) == ("succeeded", "", 2)
    chat = [each for each in sharing.consumer.attempts() if each.model == "fake-chat"]
    assert [each.state for each in chat] == ["unknown", "settled"]
    assert len(entries_of(sharing.consumer.persona, run_id)) == 2
    rows: list[Any] = [*chat, *entries_of(sharing.consumer.persona, run_id)]
    for row in rows:
        assert (row.tenant_id, row.owner_tenant_id, row.payer_tenant_id) == sharing.parties()
    assert budget(sharing.paying)["unknown_tokens"] == chat[0].held_tokens
    assert budget(sharing.not_paying)["held_tokens"] == 0


@pytest.mark.parametrize("provider", ["fake"], indirect=True)
def test_a_shared_run_that_is_cancelled_keeps_nothing_of_what_was_found(sharing: Sharing) -> None:
    sharing.consumer.fake.fail("hold", match={"path": "chat", "contains": QUESTION})
    run_id = sharing.consumer.ask(sharing.agent, QUESTION)
    wait_until(lambda: _is_asked(sharing), seconds=30)
    assert UNQUOTED in str(sharing.consumer.run(run_id).passages)
    assert sharing.consumer.persona.api.post(f"/api/v1/runs/{run_id}/cancel").json()["status"] == "cancelled"
    assert sharing.consumer.run(run_id).passages is None
    sharing.consumer.fake.release()
    wait_until(lambda: len(entries_of(sharing.consumer.persona, run_id)) == 2, seconds=30)


@pytest.mark.parametrize("payer", ["owner"], indirect=True)
@pytest.mark.parametrize("provider", ["fake"], indirect=True)
def test_code_cancels_a_shared_run_in_the_consumers_own_name(sharing: Sharing) -> None:
    sharing.consumer.fake.fail("429", retry_after_ms="3000", match={"path": "chat", "contains": QUESTION})
    run_id = sharing.consumer.ask(sharing.agent, QUESTION)
    wait_until(lambda: "void" in [each.state for each in sharing.consumer.attempts()], seconds=30)
    assert runs.cancel_run(sharing.consumer.persona.ctx, run_id).status == "cancelled"
    with unit_of_work(sharing.consumer.persona.ctx):
        assert sorted(Operation.objects.values_list("state", flat=True)) == ["cancelled", "done"]
    assert budget(sharing.paying)["held_tokens"] == 0


def _is_asked(sharing: Sharing) -> bool:
    """Whether the model has been asked, which comes after the passages are stored."""
    arrivals = sharing.consumer.fake.arrivals()
    return any("chat" in each["path"] and QUESTION in str(each["body"]) for each in arrivals)
