"""The headers of a question, as the schema shows them."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter

from apps.agents.contexts import HEADERS, MAX_COLLECTIONS
from apps.core.api.schema import LABEL, UUID, header
from apps.core.configuration import SETTINGS, Setting

_NUMBERS = {int: "integer", float: "number"}


def _schema(setting: Setting) -> dict[str, Any]:
    if setting.type is str:
        return LABEL
    return {"type": _NUMBERS[setting.type], "minimum": setting.minimum, "maximum": setting.maximum}


def _override(name: str, setting: str) -> OpenApiParameter:
    return header(name, f"{SETTINGS[setting].help} Goes before the agent's setting.", _schema(SETTINGS[setting]))


#: What :func:`apps.agents.contexts.chat_context` reads besides the body.
CHAT_PARAMETERS = [
    header("X-Agent-ID", "The agent, if the body does not name it.", UUID),
    header("X-Conversation-ID", "The conversation, if the body does not name it.", UUID),
    header("X-RAG-Collections", f"A JSON list of at most {MAX_COLLECTIONS} ids: the collections to search instead."),
    *(_override(name, setting) for name, (setting, _) in HEADERS.items()),
    header("Prefer", "`wait=N`: answer with the finished run if it finishes within N seconds, at most 60."),
]
