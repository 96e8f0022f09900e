"""Agents, the conversations with them, and the runs that answer."""

from typing import Any, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.agents.types import Author, Payer, RunStatus
from apps.core.ids import new_id
from apps.core.references import reference
from apps.core.work import WorkItem, work_indexes

DEFAULT_PROMPT = (
    "You answer questions from the passages you are given. Say what they say, cite each statement with the number of "
    "its passage in square brackets, and say so plainly when they do not answer the question."
)


class Agent(models.Model):
    """A configured assistant. What it says and how stands in its versions; the latest one answers."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant_id = models.UUIDField(editable=False)
    slug = models.SlugField(max_length=63)
    name = models.CharField(max_length=200)
    version = models.PositiveIntegerField(default=1, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["tenant_id", "slug"], name="one_agent_per_slug")]

    def __str__(self) -> str:
        return self.name


class AgentVersion(models.Model):
    """An agent as it was configured at one time. Never changed: a run names the version it was asked of."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant_id = models.UUIDField(editable=False)
    agent = reference(Agent, related_name="versions", db_index=False)
    number = models.PositiveIntegerField()
    prompt = models.TextField(default=DEFAULT_PROMPT)
    #: Only what the agent sets itself, by dotted name: ``{"llm_config.model": …}``.
    settings = models.JSONField(default=dict, blank=True)
    collections = ArrayField(models.UUIDField(), default=list, blank=True)
    #: Null: the deployment's. Empty: none.
    fallback_models = ArrayField(models.CharField(max_length=200), null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["agent", "number"], name="one_version_per_number")]

    def __str__(self) -> str:
        return f"version {self.number} of {self.agent_id}"


class AgentShare(models.Model):
    """Another tenant may use the agent. ``tenant_id`` is the owner's, as on the agent.

    There is no foreign key to the consumer: whether a tenant exists is nothing that another one may find out.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant_id = models.UUIDField(editable=False)
    agent = reference(Agent, related_name="shares", db_index=False)
    consumer_id = models.UUIDField()
    payer = models.CharField(max_length=16, choices=Payer.choices)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["agent", "consumer_id"], name="one_share_per_agent_and_consumer"),
            models.CheckConstraint(condition=~Q(consumer_id=models.F("tenant_id")), name="share_with_another_tenant"),
            models.CheckConstraint(condition=Q(payer__in=Payer.values), name="share_payer"),
        ]
        # Serves a consumer's question and the list of what it may use.
        indexes = [models.Index(fields=["consumer_id", "agent"], name="share_with_consumer")]

    def __str__(self) -> str:
        return f"{self.agent_id} for {self.consumer_id}"


class Conversation(models.Model):
    """Messages that belong together. It is the consumer's: the owner of a shared agent does not see it."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant_id = models.UUIDField(editable=False)
    agent_id = models.UUIDField()
    title = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-id"]
        # Serves the list of a tenant's conversations, newest first.
        indexes = [models.Index(fields=["tenant_id", "-id"], name="conversation_of_tenant")]

    def __str__(self) -> str:
        return self.title or str(self.id)


class Run(WorkItem):
    """One question to an agent, on its way to an answer."""

    task_name = "query.answer"
    unfinished: ClassVar[frozenset[str]] = frozenset({RunStatus.QUEUED, RunStatus.RETRIEVING, RunStatus.GENERATING})

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant_id = models.UUIDField(editable=False)
    owner_tenant_id = models.UUIDField(editable=False)
    payer_tenant_id = models.UUIDField(editable=False)
    agent_id = models.UUIDField()
    agent_version = models.PositiveIntegerField()
    conversation = reference(Conversation, related_name="runs")
    session_id = models.CharField(max_length=128)
    status = models.CharField(max_length=16, choices=RunStatus.choices, default=RunStatus.QUEUED)
    question = models.TextField()
    #: What was found, written before the first hold: a repeated delivery puts the same question to the model. Of
    #: another tenant's documents it is kept no longer than the run needs it; see :attr:`final`.
    passages = models.JSONField(null=True)
    #: The id that the answer's message will have, decided with the passages, so that the ledger can name it before
    #: there is an answer, and names the same one however often the work is delivered.
    answer_message_id = models.UUIDField(null=True)
    answer = models.TextField(blank=True, default="")
    #: Why the answer ends, in the provider's word of whatever length, or ``interrupted``: it is not whole.
    finish_reason = models.TextField(blank=True, default="")
    citations = models.JSONField(default=list)
    usage = models.JSONField(default=dict)
    error_code = models.CharField(max_length=64, blank=True, default="")
    error_detail = models.TextField(blank=True, default="")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True)
    retrieved_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.CheckConstraint(condition=Q(status__in=RunStatus.values), name="run_status")]
        indexes = [
            # Serves the list of a tenant's runs, newest first.
            models.Index(fields=["tenant_id", "-id"], name="run_of_tenant"),
            *work_indexes("run", Q(status__in=["queued", "retrieving", "generating"])),
        ]

    def __str__(self) -> str:
        return self.question[:80]

    @property
    def is_shared(self) -> bool:
        """Whether the agent is another tenant's."""
        return self.owner_tenant_id != self.tenant_id

    @property
    def final(self) -> dict[str, Any]:
        """What changes with the run's last step, however it ends."""
        values = {"lease_expires_at": None, "finished_at": Now()}
        return {**values, "passages": None} if self.is_shared else values


class Message(models.Model):
    """What was said in a conversation. A run's question and answer are one message each, however often it is driven."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant_id = models.UUIDField(editable=False)
    conversation = reference(Conversation, related_name="messages", db_index=False)
    run = reference(Run, related_name="messages", db_index=False)
    author = models.CharField(max_length=16, choices=Author.choices)
    content = models.TextField()
    #: An answer's, as on its run.
    finish_reason = models.TextField(blank=True, default="")
    citations = models.JSONField(default=list)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["run", "author"], name="one_message_per_author_and_run")]
        indexes = [
            # Serves a conversation's history.
            models.Index(fields=["conversation", "-id"], name="message_of_conversation")
        ]

    def __str__(self) -> str:
        return f"{self.author}: {self.content[:60]}"
