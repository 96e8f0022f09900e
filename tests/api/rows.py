"""Rows by the dozen, in states in which nobody would work on them."""

from uuid import UUID, uuid4

from apps.agents import services as agents
from apps.agents import shares
from apps.agents.models import Agent, AgentShare, Conversation, Message, Run
from apps.agents.types import Author, Payer, RunStatus
from apps.collections import services as collections
from apps.collections.models import Chunk, Collection, Document, EmbeddingSpace
from apps.collections.types import DocumentStatus
from apps.core.context import ExecutionContext, LLMConfig, ProcessingConfig, RagConfig
from apps.core.db import operator_scope, unit_of_work
from apps.core.ids import new_id
from apps.ledger.models import Discrepancy
from apps.ledger.records import UsageEvent, record_many
from apps.ledger.types import OperationKind, TokenCounts, TokenType
from apps.tenants import services
from apps.tenants.models import Member, ProviderCredential, User
from tests.personas import Persona


def parents(persona: Persona) -> dict[str, UUID]:
    """The things that lists hang on: what was made first."""
    models = {
        "agent": Agent,
        "collection": Collection,
        "document": Document,
        "conversation": Conversation,
        "run": Run,
    }
    with unit_of_work(persona.ctx):
        found = {name: model.objects.order_by("id").first() for name, model in models.items()}  # type: ignore[attr-defined]
    return {name: row.pk for name, row in found.items() if row}


def add_one_of_everything(persona: Persona) -> dict[str, UUID]:
    """One row of everything that has an address of its own; their ids by the nouns of these addresses."""
    add_shares(persona, 1)
    add_chunks(persona, 1)
    add_runs(persona, 1)
    add_members(persona, 1)
    key, _ = services.issue_key(persona.ctx, name="second", scopes=["chat"])
    with unit_of_work(persona.ctx):
        rest = {"shares": AgentShare.objects.get().pk, "members": Member.objects.get().pk, "api-keys": key.pk}
    return rest | {f"{name}s": identifier for name, identifier in parents(persona).items()}


def add_agents(persona: Persona, number: int) -> None:
    for name in _names(number):
        agents.create_agent(persona.ctx, slug=name, name=name)


def add_shares(persona: Persona, number: int) -> None:
    """Shares of the first agent, which is made if need be, with tenants that nobody knows."""
    if "agent" not in parents(persona):
        add_agents(persona, 1)
    agent = parents(persona)["agent"]
    for _ in range(number):
        shares.share_agent(persona.ctx, agent, consumer_id=uuid4(), payer=Payer.OWNER)


def add_collections(persona: Persona, number: int) -> None:
    for name in _names(number):
        collections.create_collection(persona.ctx, slug=name, name=name, settings={}, tier_defaults={})


def add_documents(persona: Persona, number: int) -> None:
    """Documents of the first collection, which is made if need be."""
    ctx = persona.ctx
    if "collection" not in parents(persona):
        add_collections(persona, 1)
    with unit_of_work(ctx):
        space = EmbeddingSpace.objects.get()
        Document.objects.bulk_create(
            Document(
                id=new_id(),
                tenant_id=ctx.tenant_id,
                collection_id=space.collection_id,
                space=space,
                name=name,
                size_bytes=1,
                content_hash=name,
                status=DocumentStatus.READY,
                signed_context=ctx.sign(),
            )
            for name in _names(number)
        )


def add_chunks(persona: Persona, number: int) -> None:
    """Chunks of the first document, which is made if need be."""
    if "document" not in parents(persona):
        add_documents(persona, 1)
    with unit_of_work(persona.ctx):
        document = Document.objects.get()
        place = {"tenant_id": document.tenant_id, "space_id": document.space_id, "document": document}
        first = Chunk.objects.count()
        Chunk.objects.bulk_create(
            Chunk(**place, ordinal=ordinal, text="words", tokens=1) for ordinal in range(first, first + number)
        )


def add_conversations(persona: Persona, number: int) -> None:
    ctx = persona.ctx
    with unit_of_work(ctx):
        Conversation.objects.bulk_create(
            Conversation(tenant_id=ctx.tenant_id, agent_id=uuid4(), title=name) for name in _names(number)
        )


def add_runs(persona: Persona, number: int) -> None:
    """Runs with their questions, in the first conversation, which is made if need be."""
    if "conversation" not in parents(persona):
        add_conversations(persona, 1)
    ctx = _chat_context(persona.ctx)
    with unit_of_work(ctx):
        conversation = Conversation.objects.get()
        for name in _names(number):
            run = Run.objects.create(
                tenant_id=ctx.tenant_id,
                owner_tenant_id=ctx.owner_tenant_id,
                payer_tenant_id=ctx.payer_tenant_id,
                agent_id=conversation.agent_id,
                agent_version=1,
                conversation=conversation,
                session_id="session",
                question=name,
                status=RunStatus.SUCCEEDED,
                signed_context=ctx.sign(),
            )
            Message.objects.create(
                tenant_id=ctx.tenant_id, conversation=conversation, run=run, author=Author.USER, content=name
            )


def add_answers(persona: Persona, number: int) -> None:
    """Runs with their questions and answers, in the first conversation."""
    add_runs(persona, number)
    with unit_of_work(persona.ctx):
        unanswered = Run.objects.exclude(messages__author=Author.ASSISTANT)
        Message.objects.bulk_create(
            Message(
                tenant_id=run.tenant_id,
                conversation_id=run.conversation_id,
                run=run,
                author=Author.ASSISTANT,
                content="words",
            )
            for run in unanswered
        )


def add_entries(persona: Persona, number: int) -> None:
    events = [
        UsageEvent(
            idempotency_key=name,
            counts=TokenCounts(fresh_input_tokens=1),
            provider="elsewhere",
            model="model",
            token_type=TokenType.LLM,
            operation=OperationKind.CHAT,
        )
        for name in _names(number)
    ]
    record_many(persona.ctx, events)


def add_discrepancies(persona: Persona, number: int) -> None:
    with operator_scope("test"):
        Discrepancy.objects.bulk_create(
            Discrepancy(tenant_id=persona.ctx.tenant_id, kind="overage", subject=name) for name in _names(number)
        )


def add_api_keys(persona: Persona, number: int) -> None:
    for name in _names(number):
        services.issue_key(persona.ctx, name=name, scopes=["chat"])


def add_credentials(persona: Persona, number: int) -> None:
    """For providers that this deployment does not have any more."""
    with unit_of_work(persona.ctx):
        ProviderCredential.objects.bulk_create(
            ProviderCredential(tenant=persona.tenant, provider=name, encrypted_secret=b"", hint="")
            for name in _names(number)
        )


def add_members(persona: Persona, number: int) -> None:
    """Members with accounts, as an operator makes them."""
    users = User.objects.bulk_create(User(username=name) for name in _names(number))
    with unit_of_work(persona.ctx):
        Member.objects.bulk_create(Member(tenant_id=persona.ctx.tenant_id, user=user) for user in users)


def _names(number: int) -> list[str]:
    return [f"n-{uuid4().hex}" for _ in range(number)]


def _chat_context(ctx: ExecutionContext) -> ExecutionContext:
    llm = LLMConfig(
        provider="local", model="extractive", temperature=0, max_tokens=1, timeout_seconds=1, retry_attempts=0
    )
    processing = ProcessingConfig(max_text_length=1, batch_size=1, chunk_size=1, chunk_overlap=0)
    return ctx.model_copy(
        update={"llm_config": llm, "rag_config": RagConfig(max_results=1), "processing_config": processing}
    )
