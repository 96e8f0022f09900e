"""A thousand rows of everything, as work leaves them behind: finished, so that no sweeper takes them up."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from django_celery_results.models import TaskResult
from pgvector import HalfVector, SparseVector

from apps.agents.models import Agent, AgentShare, AgentVersion, Conversation, Message, Run
from apps.agents.types import Author, RunStatus
from apps.collections.models import (
    TERM_DIMENSIONS,
    Chunk,
    ChunkEmbedding,
    ChunkTerms,
    Collection,
    Document,
    EmbeddingBatch,
    EmbeddingSpace,
    TermStatistic,
)
from apps.collections.types import BatchStatus, DocumentStatus
from apps.core import clock
from apps.core.models import DeadLetter, IdempotentResponse, PeriodicSlot
from apps.ledger import till
from apps.ledger.models import Discrepancy, Price, ReconciliationRun
from apps.ledger.price_list import FREE
from apps.ledger.types import Call, Charge, OperationKind, TokenCounts, TokenType
from apps.tenants import services
from apps.tenants.models import ApiKey, Member, ProviderCredential, Tenant, User

COUNT = 1000
#: Stands where a page must never show it: in hashes and secrets of keys, and as a number of vectors.
HIDDEN_HASH = "feedc0de" * 8
HIDDEN_NUMBER = 0.1234


def plant(mark: str) -> None:
    """Make the rows, with ``mark`` in names that must be unique; the caller is in the operator's scope."""
    tenants = _bulk(Tenant(slug=f"{mark}-{n}", name=f"Tenant {n}", tier_id="free") for n in range(COUNT))
    signed = services.context_of(tenants[0]).sign()
    _plant_people(tenants, mark)
    runs = _plant_conversations(tenants, signed)
    _plant_collections(tenants, signed)
    _plant_ledger(tenants, runs)
    _plant_operations(tenants, mark)


def _bulk(rows: Iterable[Any]) -> list[Any]:
    made: Sequence[Model] = list(rows)
    return list(type(made[0])._default_manager.bulk_create(made))


def _plant_people(tenants: list[Tenant], mark: str) -> None:
    users = _bulk(User(username=f"{mark}-{n}") for n in range(COUNT))
    _bulk(Group(name=f"{mark}-{n}") for n in range(COUNT))
    _bulk(Member(tenant=tenant, user=user) for tenant, user in zip(tenants, users, strict=True))
    _bulk(
        ApiKey(tenant=tenant, name="key", prefix=f"{mark}-{n}", secret_hash=HIDDEN_HASH, scopes=["chat"])
        for n, tenant in enumerate(tenants)
    )
    _bulk(
        ProviderCredential(tenant=tenant, provider="nobody", encrypted_secret=HIDDEN_HASH.encode(), hint="4242")
        for tenant in tenants
    )
    kind = ContentType.objects.get_for_model(User)
    _bulk(
        LogEntry(user=user, content_type=kind, object_id=user.pk, object_repr="user", action_flag=CHANGE)
        for user in users
    )


def _plant_conversations(tenants: list[Tenant], signed: str) -> list[Run]:
    agents = _bulk(Agent(tenant_id=tenant.pk, slug="agent", name="Agent") for tenant in tenants)
    _bulk(AgentVersion(tenant_id=agent.tenant_id, agent=agent, number=1) for agent in agents)
    _bulk(AgentShare(tenant_id=agent.tenant_id, agent=agent, consumer_id=uuid4(), payer="owner") for agent in agents)
    conversations = _bulk(Conversation(tenant_id=agent.tenant_id, agent_id=agent.pk) for agent in agents)
    runs = _bulk(
        Run(
            tenant_id=conversation.tenant_id,
            owner_tenant_id=conversation.tenant_id,
            payer_tenant_id=conversation.tenant_id,
            agent_id=conversation.agent_id,
            agent_version=1,
            conversation=conversation,
            status=RunStatus.SUCCEEDED,
            question="¿Qué dice el manual?",
            passages=[{"text": "El manual dice …"}],
            signed_context=signed,
            task_id=str(uuid4()),
        )
        for conversation in conversations
    )
    _bulk(
        Message(
            tenant_id=run.tenant_id, conversation=run.conversation, run=run, author=Author.USER, content=run.question
        )
        for run in runs
    )
    return runs


def _plant_collections(tenants: list[Tenant], signed: str) -> None:
    collections = _bulk(Collection(tenant_id=tenant.pk, slug="manual", name="Manual") for tenant in tenants)
    spaces = _bulk(
        EmbeddingSpace(
            tenant_id=collection.tenant_id,
            collection=collection,
            provider="local",
            model="words",
            dimensions=3,
            chunk_size=512,
            chunk_overlap=64,
        )
        for collection in collections
    )
    documents = _bulk(
        Document(
            tenant_id=space.tenant_id,
            collection_id=space.collection_id,
            space=space,
            name="manual.md",
            size_bytes=10,
            content_hash=uuid4().hex,
            status=DocumentStatus.READY,
            signed_context=signed,
        )
        for space in spaces
    )
    _bulk(
        EmbeddingBatch(
            tenant_id=document.tenant_id,
            document=document,
            ordinal=0,
            first=0,
            last=0,
            status=BatchStatus.DONE,
            signed_context=signed,
        )
        for document in documents
    )
    _plant_chunks(documents)
    _bulk(TermStatistic(tenant_id=space.tenant_id, space=space, term=7, chunks=1) for space in spaces)


def _plant_chunks(documents: list[Document]) -> None:
    chunks = _bulk(
        Chunk(tenant_id=document.tenant_id, space=document.space, document=document, ordinal=0, text="Hola.", tokens=2)
        for document in documents
    )
    vector = HalfVector([HIDDEN_NUMBER] * 3)
    terms = SparseVector({1: HIDDEN_NUMBER, 2: HIDDEN_NUMBER}, TERM_DIMENSIONS)
    parts = [
        {"chunk": chunk, "tenant_id": chunk.tenant_id, "space": chunk.space, "document": chunk.document}
        for chunk in chunks
    ]
    _bulk(ChunkEmbedding(**part, embedding=vector) for part in parts)
    _bulk(ChunkTerms(**part, terms=terms) for part in parts)


def _plant_ledger(tenants: list[Tenant], runs: list[Run]) -> None:
    """Through the till, a payer and a model each, so that the books agree: nobody may delete them afterwards."""
    for number, (tenant, run) in enumerate(zip(tenants, runs, strict=True)):
        ctx = services.context_of(tenant)
        charge = Charge(
            operation=OperationKind.QUERY,
            token_type=TokenType.LLM,
            payload={"run": str(run.pk)},
            agent_id=run.agent_id,
            run_id=run.pk,
        )
        call = Call(provider="local", model=f"model-{number}", hold_tokens=100, deadline_seconds=60)
        till.hold(ctx, charge, call)
        till.settle(ctx, call.attempt_id, TokenCounts(fresh_input_tokens=10), result={"answer": "Hola."})
    # Of a provider that nobody uses.
    starts_at = clock.now()
    _bulk(
        Price(provider="nobody", model=f"{run.pk}", starts_at=starts_at, source="set by ada", **vars(FREE))
        for run in runs
    )
    # Resolved: a reconciliation in another test has nothing to do with them.
    _bulk(
        Discrepancy(tenant_id=tenant.pk, kind="overage", state="resolved", subject="attempt", evidence={"a": 1})
        for tenant in tenants
    )
    _bulk(ReconciliationRun(started_by="test", found={"overage": 1}) for _ in range(COUNT))


def _plant_operations(tenants: list[Tenant], mark: str) -> None:
    _bulk(PeriodicSlot(name=mark, starts_at=moment) for moment in _moments())
    _bulk(
        IdempotentResponse(tenant_id=tenant.pk, key=mark, request_hash=mark, status_code=200, body={})
        for tenant in tenants
    )
    _bulk(
        DeadLetter(tenant_id=tenant.pk, task_name="query.answer", row_id=uuid4(), reason="It died.")
        for tenant in tenants
    )
    _bulk(
        TaskResult(task_id=f"{mark}-{n}", content_type="application/json", content_encoding="utf-8")
        for n in range(COUNT)
    )
    every = _bulk(IntervalSchedule(every=n + 1, period=IntervalSchedule.DAYS) for n in range(COUNT))
    _bulk(CrontabSchedule(minute="0", timezone="UTC") for _ in range(COUNT))
    _bulk(ClockedSchedule(clocked_time=moment) for moment in _moments())
    _bulk(SolarSchedule(event="dawn_astronomical", latitude=n / 100, longitude=0) for n in range(COUNT))
    _bulk(PeriodicTask(name=f"{mark}-{n}", task="t", interval=every[n], enabled=False) for n in range(COUNT))


def _moments() -> Iterator[datetime]:
    # Old slots would be purged by whoever runs the purge.
    return (clock.now() + timedelta(hours=n) for n in range(COUNT))


def uproot(mark: str) -> None:
    """Remove what another test would stumble over: beat reads every periodic task."""
    PeriodicTask.objects.filter(name__startswith=mark).delete()
