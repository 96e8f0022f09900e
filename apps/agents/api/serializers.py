from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.agents.api import examples
from apps.agents.api.explanations import AnswerMetadataSerializer, RunConfigField
from apps.agents.api.fields import ExtrasField, FallbackModelsField
from apps.agents.models import DEFAULT_PROMPT, Agent, AgentShare, AgentVersion, Conversation, Message, Run
from apps.agents.runs import FINISHED
from apps.agents.types import Author, Payer, RunStatus
from apps.core.api.fields import FailureField, number_field
from apps.core.api.schema import example
from apps.core.configuration import SETTINGS
from apps.core.headers import MAX_COLLECTIONS
from apps.gateway.types import TokenSource

MAX_PROMPT_CHARACTERS = 20_000
MAX_MESSAGE_CHARACTERS = 100_000
TEMPERATURE = SETTINGS["llm_config.temperature"]
TIMEOUT, RETRIES = SETTINGS["llm_config.timeout_seconds"], SETTINGS["llm_config.retry_attempts"]
WHEN_INTERRUPTED = SETTINGS["llm_config.on_interrupted_stream"]


class TemperaturesRequestSerializer(serializers.Serializer[Any]):
    """Temperatures for questions that documents are searched for (`rag`), and for those that none are (`chat`)."""

    rag = number_field(TEMPERATURE.name, required=False, allow_null=True)
    chat = number_field(TEMPERATURE.name, required=False, allow_null=True)


class TemperaturesSerializer(serializers.Serializer[Any]):
    """Temperatures by kind of question; null: the agent's temperature for all."""

    rag = serializers.FloatField(allow_null=True)
    chat = serializers.FloatField(allow_null=True)


class LLMRequestSerializer(serializers.Serializer[Any]):
    """What the agent sets itself; null, or left out: the tier's or the deployment's."""

    provider = serializers.CharField(max_length=64, required=False, allow_null=True)
    model = serializers.CharField(max_length=128, required=False, allow_null=True)
    temperature = number_field(TEMPERATURE.name, required=False, allow_null=True)
    temperature_by_query_type = TemperaturesRequestSerializer(required=False)
    max_tokens = number_field("llm_config.max_tokens", required=False, allow_null=True)
    timeout_seconds = number_field(TIMEOUT.name, required=False, allow_null=True, help_text=TIMEOUT.help)
    retry_attempts = number_field(RETRIES.name, required=False, allow_null=True, help_text=RETRIES.help)
    on_interrupted_stream = serializers.ChoiceField(
        choices=WHEN_INTERRUPTED.choices, required=False, allow_null=True, help_text=WHEN_INTERRUPTED.help
    )
    extras = ExtrasField(required=False, allow_null=True)


class RagRequestSerializer(serializers.Serializer[Any]):
    """What the agent sets itself; null, or left out: the tier's or the deployment's."""

    collections = serializers.ListField(child=serializers.UUIDField(), required=False, max_length=MAX_COLLECTIONS)
    max_results = number_field("rag_config.max_results", required=False, allow_null=True)
    similarity_threshold = number_field("rag_config.similarity_threshold", required=False, allow_null=True)
    query_expansion_enabled = serializers.BooleanField(
        required=False, allow_null=True, help_text=SETTINGS["rag_config.query_expansion_enabled"].help
    )


class LLMSerializer(serializers.Serializer[Any]):
    """What the agent sets itself; null: the tier's or the deployment's."""

    provider = serializers.CharField(allow_null=True)
    model = serializers.CharField(allow_null=True)
    temperature = serializers.FloatField(allow_null=True)
    temperature_by_query_type = TemperaturesSerializer()
    max_tokens = serializers.IntegerField(allow_null=True)
    timeout_seconds = serializers.IntegerField(allow_null=True)
    retry_attempts = serializers.IntegerField(allow_null=True)
    on_interrupted_stream = serializers.ChoiceField(choices=WHEN_INTERRUPTED.choices, allow_null=True)
    extras = ExtrasField(allow_null=True)


class RagSerializer(serializers.Serializer[Any]):
    """What the agent sets itself; null: the tier's or the deployment's."""

    collections = serializers.ListField(child=serializers.UUIDField())
    max_results = serializers.IntegerField(allow_null=True)
    similarity_threshold = serializers.FloatField(allow_null=True)
    query_expansion_enabled = serializers.BooleanField(allow_null=True)


@example(examples.AGENT_REQUEST)
class AgentRequestSerializer(serializers.Serializer[Any]):
    """A new agent."""

    slug = serializers.SlugField(max_length=63)
    name = serializers.CharField(max_length=200)
    prompt = serializers.CharField(max_length=MAX_PROMPT_CHARACTERS, default=DEFAULT_PROMPT)
    llm = LLMRequestSerializer(required=False)
    rag = RagRequestSerializer(required=False)
    fallback_models = FallbackModelsField(default=None)


@example(examples.AGENT_CHANGE)
class AgentChangeSerializer(serializers.Serializer[Any]):
    """What is to be different; what is left out stays."""

    name = serializers.CharField(max_length=200, required=False)
    prompt = serializers.CharField(max_length=MAX_PROMPT_CHARACTERS, required=False)
    llm = LLMRequestSerializer(required=False)
    rag = RagRequestSerializer(required=False)
    fallback_models = FallbackModelsField(required=False)


class SharedSerializer(serializers.Serializer[Any]):
    """Whose agent it is, and who pays for what it is asked."""

    owner_tenant_id = serializers.UUIDField()
    payer = serializers.ChoiceField(choices=Payer.choices)


@example(examples.AGENT)
class AgentSerializer(serializers.Serializer[Any]):
    """An agent as the API shows it. Of one that another tenant shares, what it is made of stays its owner's: null."""

    id = serializers.UUIDField()
    slug = serializers.CharField()
    name = serializers.CharField()
    prompt = serializers.CharField(allow_null=True)
    llm = LLMSerializer(allow_null=True)
    rag = RagSerializer(allow_null=True)
    fallback_models = serializers.ListField(
        child=serializers.CharField(), allow_null=True, help_text="Null: the deployment's. Empty: none."
    )
    version = serializers.IntegerField(help_text="Grows with every change of what the agent says and how.")
    shared = SharedSerializer(allow_null=True, help_text="Null: the agent is the tenant's own.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class AgentQuerySerializer(serializers.Serializer[Any]):
    """Which agents are listed."""

    shared = serializers.BooleanField(
        default=False, help_text="List the agents that other tenants share with this one, instead of its own."
    )


class PreferencesSerializer(serializers.Serializer[Any]):
    """Settings for this one question; they go before the agent's."""

    provider = serializers.CharField(max_length=64, required=False)
    model = serializers.CharField(max_length=128, required=False)
    temperature = number_field(TEMPERATURE.name, required=False)
    max_tokens = number_field("llm_config.max_tokens", required=False)


@example(examples.CHAT_REQUEST)
class ChatRequestSerializer(serializers.Serializer[Any]):
    """A question. `agent_id` may stand in the header X-Agent-ID instead; without a conversation a new one begins."""

    message = serializers.CharField(max_length=MAX_MESSAGE_CHARACTERS, trim_whitespace=False)
    agent_id = serializers.UUIDField(required=False)
    conversation_id = serializers.UUIDField(required=False)
    model_preferences = PreferencesSerializer(required=False)
    collections = serializers.ListField(child=serializers.UUIDField(), required=False, max_length=MAX_COLLECTIONS)


@example(examples.ACCEPTED)
class AcceptedSerializer(serializers.Serializer[Any]):
    """A run that has begun."""

    run_id = serializers.UUIDField()
    context_id = serializers.UUIDField()
    session_id = serializers.CharField()
    conversation_id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=RunStatus.choices)
    events_url = serializers.URLField()


class CitationSerializer(serializers.Serializer[Any]):
    """A passage that the answer rests on."""

    document_id = serializers.UUIDField()
    document_name = serializers.CharField()
    chunk_id = serializers.UUIDField()
    page = serializers.IntegerField(allow_null=True)
    score = serializers.FloatField()
    quote = serializers.CharField(help_text="The sentence of the passage that says it.")


class RunUsageSerializer(serializers.Serializer[Any]):
    """What the run had used when its last step ended. `token_source` null: nothing was generated."""

    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cached_input_tokens = serializers.IntegerField()
    expansion_tokens = serializers.IntegerField(help_text="Of the call that worded the question, in and out.")
    embedding_tokens = serializers.IntegerField(help_text="Of the question, and of its other wordings.")
    cost_usd = serializers.DecimalField(
        max_digits=20,
        decimal_places=10,
        allow_null=True,
        help_text="What was booked when it succeeded. Null: it has not, or a model of it has no price. Corrections, "
        "and what a run cost that failed or was cancelled, stand in `GET /usage/entries`.",
    )
    token_source = serializers.ChoiceField(choices=TokenSource.choices, allow_null=True)


class TimingsSerializer(serializers.Serializer[Any]):
    """Milliseconds; null until the step has ended."""

    queue = serializers.IntegerField(allow_null=True)
    retrieve = serializers.IntegerField(allow_null=True)
    generate = serializers.IntegerField(allow_null=True)
    total = serializers.IntegerField(allow_null=True)


@example(examples.RUN)
class RunSerializer(serializers.ModelSerializer[Run]):
    """A question on its way to its answer."""

    answer = serializers.SerializerMethodField()
    finish_reason = serializers.SerializerMethodField()
    citations = CitationSerializer(many=True)
    usage = serializers.SerializerMethodField()
    config = RunConfigField()
    error = FailureField()
    timings_ms = serializers.SerializerMethodField()

    class Meta:
        model = Run
        fields = [
            "id",
            "status",
            "agent_id",
            "agent_version",
            "conversation_id",
            "session_id",
            "question",
            "answer",
            "finish_reason",
            "citations",
            "usage",
            "config",
            "error",
            "timings_ms",
            "task_id",
            "created_at",
        ]
        read_only_fields = fields

    def get_answer(self, run: Run) -> str | None:
        """Null until the run has succeeded."""
        return run.answer if run.status == RunStatus.SUCCEEDED else None

    def get_finish_reason(self, run: Run) -> str | None:
        """Why the answer ends: the provider's word (`stop`; `length`: `max_tokens` was reached), or `interrupted`: it
        broke off, and its agent keeps what had come. Null: there is no answer, or the provider did not say.
        """
        return run.finish_reason or None

    @extend_schema_field(RunUsageSerializer)
    def get_usage(self, run: Run) -> dict[str, Any]:
        counts = ("input_tokens", "output_tokens", "cached_input_tokens", "expansion_tokens", "embedding_tokens")
        facts = ("cost_usd", "token_source")
        return {name: run.usage.get(name, 0) for name in counts} | {name: run.usage.get(name) for name in facts}

    @extend_schema_field(TimingsSerializer)
    def get_timings_ms(self, run: Run) -> dict[str, int | None]:
        finished = run.finished_at if run.status in FINISHED else None
        steps = {
            "queue": (run.created_at, run.started_at),
            "retrieve": (run.started_at, run.retrieved_at),
            "generate": (run.retrieved_at, finished),
            "total": (run.created_at, finished),
        }
        return {name: _milliseconds(*moments) for name, moments in steps.items()}


@example(examples.CONVERSATION)
class ConversationSerializer(serializers.ModelSerializer[Conversation]):
    """Messages that belong together."""

    class Meta:
        model = Conversation
        fields = ["id", "agent_id", "title", "created_at"]
        read_only_fields = fields


@example(examples.MESSAGE)
class MessageSerializer(serializers.ModelSerializer[Message]):
    """A question or an answer. To be read with its run."""

    finish_reason = serializers.SerializerMethodField()
    citations = CitationSerializer(many=True)
    metadata = serializers.SerializerMethodField()

    class Meta:
        model = Message
        fields = ["id", "run_id", "author", "content", "finish_reason", "citations", "metadata", "created_at"]
        read_only_fields = fields

    def get_finish_reason(self, message: Message) -> str | None:
        """Why an answer ends, as its run says. Null: it is a question, or the provider did not say."""
        return message.finish_reason or None

    @extend_schema_field(AnswerMetadataSerializer(allow_null=True))
    def get_metadata(self, message: Message) -> dict[str, Any] | None:
        """What explains an answer. Null: it is a question."""
        return AnswerMetadataSerializer(message.run).data if message.author == Author.ASSISTANT else None


def present_agent(agent: Agent, version: AgentVersion | None, share: AgentShare | None = None) -> dict[str, Any]:
    """An agent in the shape of the API: with the version that answers, or with the share it may be used by."""
    return {
        "id": agent.pk,
        "slug": agent.slug,
        "name": agent.name,
        **(_made_of(version) if version else dict.fromkeys(("prompt", "llm", "rag", "fallback_models"))),
        "version": agent.version,
        "shared": {"owner_tenant_id": share.tenant_id, "payer": share.payer} if share else None,
        "created_at": agent.created_at,
        "updated_at": agent.updated_at,
    }


def _made_of(version: AgentVersion) -> dict[str, Any]:
    return {
        "prompt": version.prompt,
        "llm": {
            **{name: version.settings.get(f"llm_config.{name}") for name in LLMSerializer().fields},
            "temperature_by_query_type": {
                kind: version.settings.get(f"{TEMPERATURE.name}.{kind}") for kind in TEMPERATURE.kinds
            },
        },
        "rag": {
            **{name: version.settings.get(f"rag_config.{name}") for name in RagSerializer().fields},
            "collections": version.collections,
        },
        "fallback_models": version.fallback_models,
    }


def changes_of(wanted: dict[str, Any]) -> dict[str, Any]:
    """An agent request's body as fields of a version: settings by dotted name, collections apart."""
    rag = dict(wanted.get("rag", {}))
    changes: dict[str, Any] = {name: wanted[name] for name in ("prompt", "fallback_models") if name in wanted}
    if "collections" in rag:
        changes["collections"] = rag.pop("collections")
    llm = dict(wanted.get("llm", {}))
    by_kind = llm.pop("temperature_by_query_type", {})
    settings = {f"llm_config.{name}": value for name, value in llm.items()}
    settings |= {f"{TEMPERATURE.name}.{kind}": value for kind, value in by_kind.items()}
    settings |= {f"rag_config.{name}": value for name, value in rag.items()}
    return changes | ({"settings": settings} if settings else {})


def member_of(name: str) -> str:
    """Where an agent request's body has a setting: ``llm_config.extras`` → ``llm.extras``."""
    section, dot, member = name.partition(".")
    return f"{section.removesuffix('_config')}{dot}{member}"


def _milliseconds(start: Any, end: Any) -> int | None:
    return None if start is None or end is None else round((end - start).total_seconds() * 1000)
