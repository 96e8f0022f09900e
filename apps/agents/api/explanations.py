"""What an answer is explained by: the configuration that was in force, and who gave it."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from pydantic import BaseModel, ValidationError
from rest_framework import serializers

from apps.agents.models import Run
from apps.core.context import ContextRefusedError, LLMConfig, ProcessingConfig, RagConfig, unverified


class RunConfig(BaseModel):
    """The configuration that was in force, and which level each setting came from; null if it cannot be read.

    Of an agent that another tenant shares, `extras`, `fallback_models` and the `collections` that were searched are
    empty: they are its owner's.
    """

    llm_config: LLMConfig
    rag_config: RagConfig
    processing_config: ProcessingConfig
    fallback_models: tuple[str, ...]
    sources: dict[str, str]

    def for_guest(self) -> "RunConfig":
        """Without what the owner's agent is made of. Who answers stays: it is on the guest's entries."""
        return self.model_copy(
            update={
                "llm_config": self.llm_config.model_copy(update={"extras": {}}),
                "rag_config": self.rag_config.model_copy(update={"collections": ()}),
                "fallback_models": (),
            }
        )


@extend_schema_field(RunConfig)  # type: ignore[arg-type] # its stubs do not know that it reads pydantic's models
class RunConfigField(serializers.Field[Run, Any, dict[str, Any] | None, Any]):
    """A run's configuration. Null when what is stored cannot be read: the others of a list are shown all the same."""

    def __init__(self) -> None:
        super().__init__(source="*", read_only=True, allow_null=True)

    def to_representation(self, value: Run) -> dict[str, Any] | None:
        try:
            ctx = unverified(value.signed_context)
            shown = {name: getattr(ctx, name) for name in RunConfig.model_fields if name != "sources"}
            config = RunConfig(**shown, sources=ctx.config_sources)
        except (ContextRefusedError, ValidationError):
            return None
        return (config.for_guest() if value.is_shared else config).model_dump(mode="json")


class AnswerMetadataSerializer(serializers.Serializer[Run]):
    """Who gave a run's answer, and with which configuration."""

    provider = serializers.SerializerMethodField()
    model = serializers.SerializerMethodField()
    config = RunConfigField()

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_provider(self, run: Run) -> Any:
        """Null, as `model`: the answer is older than this is kept."""
        return run.usage.get("provider")

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_model(self, run: Run) -> Any:
        """As the provider names it, which can say more than what was asked for: the date of its version."""
        return run.usage.get("model")
