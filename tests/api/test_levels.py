"""Who may set something has a way to, and what there is a way to set may be set."""

from typing import Any

from rest_framework.serializers import Serializer

from apps.agents.api.serializers import (
    AgentRequestSerializer,
    LLMRequestSerializer,
    LLMSerializer,
    PreferencesSerializer,
    RagRequestSerializer,
    RagSerializer,
)
from apps.collections.api.serializers import CollectionRequestSerializer, EmbeddingRequestSerializer
from apps.core.configuration import SETTINGS, Level
from apps.core.headers import HEADERS

#: Of an agent's members those that are no settings, or one setting's values by kind.
OTHERS = {"llm_config.temperature_by_query_type", "rag_config.collections"}


def members(section: str, serializer: type[Serializer[Any]]) -> set[str]:
    return {f"{section}.{name}" for name in serializer().fields}


def settable(level: Level) -> set[str]:
    return {name for name, setting in SETTINGS.items() if level in setting.levels}


def test_a_request_has_a_header_or_a_member_for_each_setting_that_it_may_set() -> None:
    by_header = {header.setting for header in HEADERS.values() if header.setting}
    of_a_question = members("llm_config", PreferencesSerializer)
    of_a_collection = members("processing_config", CollectionRequestSerializer) & SETTINGS.keys()
    of_a_collection |= members("embedding_config", EmbeddingRequestSerializer)
    assert settable(Level.REQUEST) == by_header | of_a_question | of_a_collection


def test_an_agent_has_a_member_for_each_setting_that_it_may_set_and_shows_it() -> None:
    whole = AgentRequestSerializer().fields.keys() & SETTINGS.keys()
    llm, rag = members("llm_config", LLMRequestSerializer), members("rag_config", RagRequestSerializer)
    assert settable(Level.AGENT) == (llm | rag | whole) - OTHERS
    assert (llm, rag) == (members("llm_config", LLMSerializer), members("rag_config", RagSerializer))
