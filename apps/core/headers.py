"""The headers that a request may carry: each is defined here, read at the edge, and nowhere behind it.

All that are sent are read with every request, so that a malformed one is told where it is sent, not where it would
first have mattered. What a header means stands with who uses it.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args
from uuid import UUID

from django.http import HttpRequest
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from apps.core.configuration import SETTINGS, InvalidSettingError, Setting
from apps.core.context import ContextType
from apps.core.errors import FieldError, InvalidRequestError, PreferenceConflictError

MAX_COLLECTIONS = 20
#: A short name, as the schema shows it.
LABEL = {"type": "string", "pattern": r"^[A-Za-z0-9_.:@/+-]{1,128}$"}
_LABEL = re.compile(LABEL["pattern"])
_NUMBERS = {int: "integer", float: "number"}

#: What was sent, by the header's name, as it was read.
Sent = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Header:
    name: str
    help: str
    #: Raises ValueError for a text that it refuses.
    read: Callable[[str], Any]
    schema: dict[str, Any]
    #: The setting that it sets, if it does: its range is the header's, and it goes before the agent's.
    setting: str = ""
    #: Whether it decides what is done. What does not is checked, or kept for the caller's records.
    decides: bool = True

    def value(self, text: str) -> Any:
        """What the header says; of what cannot be read, or be set, an InvalidRequestError that names it."""
        try:
            value = self.read(text.strip())
            return SETTINGS[self.setting].accept(value) if self.setting else value
        except ValueError as error:
            raise refused(self.name, f"{error}.") from error
        except InvalidSettingError as error:
            raise refused(self.name, error.detail) from error


def label(text: str) -> str:
    """A short name made of ASCII letters, digits and ``._:@/+-``."""
    if not _LABEL.fullmatch(text):
        raise ValueError("expected 1 to 128 ASCII letters, digits or ._:@/+-")
    return text


def identifier(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise ValueError("expected a UUID") from error


def identifiers(text: str) -> tuple[UUID, ...]:
    """A JSON list of ids."""
    refusal = f"expected a JSON list of at most {MAX_COLLECTIONS} collection ids"
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(refusal) from error
    if not isinstance(found, list) or len(found) > MAX_COLLECTIONS:
        raise ValueError(refusal)
    return tuple(identifier(str(item)) for item in found)


def context_type(text: str) -> str:
    if text not in _CONTEXT_TYPES:
        raise ValueError(f"expected one of {', '.join(_CONTEXT_TYPES)}")
    return text


def _number(kind: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return kind(text)
        except ValueError as error:
            raise ValueError(f"expected {'a number' if kind is float else 'a whole number'}") from error

    return read


def _label(name: str, text: str) -> Header:
    return Header(name=name, help=text, read=label, schema=LABEL, decides=False)


def _id(name: str, text: str, *, decides: bool = True) -> Header:
    schema = {"type": "string", "format": "uuid"}
    return Header(name=name, help=text, read=identifier, schema=schema, decides=decides)


def _override(name: str, setting: str) -> Header:
    defined = SETTINGS[setting]
    read = label if defined.type is str else _number(defined.type)
    text = f"{defined.help} Goes before what the agent, the tier or the deployment says."
    return Header(name=name, help=text, read=read, schema=_schema(defined), setting=setting)


def _schema(setting: Setting) -> dict[str, Any]:
    if setting.type is str:
        return LABEL
    return {"type": _NUMBERS[setting.type], "minimum": setting.minimum, "maximum": setting.maximum}


#: The kinds of work that a request can be.
_CONTEXT_TYPES = tuple(kind for kind in get_args(ContextType) if kind != "maintenance")
_ALL = (
    _id("X-Tenant-ID", "The key decides the tenant; if this is sent, it must say the same.", decides=False),
    _label("X-Tenant-Tier", "The tenant's tier; if this is sent, it must be right."),
    _label("X-Session-ID", "The realtime session that the request belongs to; generated if absent."),
    _label("X-User-ID", "The caller's own user, for its records."),
    _label("X-Request-Source", "What sends the request, for the caller's records."),
    _label("X-Client-Version", "The version of what sends the request, for the caller's records."),
    Header(
        name="X-Context-Type",
        help="The kind of work; where it says that a question, a search or a document is another kind, it is refused.",
        read=context_type,
        schema={"type": "string", "enum": list(_CONTEXT_TYPES)},
        decides=False,
    ),
    _id("X-Agent-ID", "The agent, if the body does not name it."),
    _id("X-Conversation-ID", "The conversation, if the body does not name it."),
    _id("X-Collection-ID", "The one collection that it is about; it must be the one that address or body name."),
    Header(
        name="X-RAG-Collections",
        help=f"A JSON list of at most {MAX_COLLECTIONS} ids: the collections to search instead of the agent's.",
        read=identifiers,
        schema={"type": "string"},
    ),
    _override("X-LLM-Provider", "llm_config.provider"),
    _override("X-LLM-Model", "llm_config.model"),
    _override("X-LLM-Temperature", "llm_config.temperature"),
    _override("X-LLM-Max-Tokens", "llm_config.max_tokens"),
    _override("X-Embedding-Provider", "embedding_config.provider"),
    _override("X-Embedding-Model", "embedding_config.model"),
    _override("X-Embedding-Dimensions", "embedding_config.dimensions"),
    _override("X-RAG-Similarity-Threshold", "rag_config.similarity_threshold"),
    _override("X-RAG-Results-Limit", "rag_config.max_results"),
    _override("X-RAG-Chunk-Size", "processing_config.chunk_size"),
)
HEADERS: Mapping[str, Header] = {header.name: header for header in _ALL}
_READ = "nooble.headers"
EMBEDDING = ("X-Embedding-Provider", "X-Embedding-Model", "X-Embedding-Dimensions")


def read(request: Request | HttpRequest) -> dict[str, Any]:
    """What the request was sent with, by the header's name; raises InvalidRequestError for what cannot be read.

    It is read once and kept with the request, among what servers and middleware keep there.
    """
    if _READ not in request.META:
        sent = request.headers
        request.META[_READ] = {name: header.value(sent[name]) for name, header in HEADERS.items() if name in sent}
    kept: dict[str, Any] = request.META[_READ]
    return kept


def deciding(request: Request) -> list[tuple[str, str]]:
    """What the request was sent with that decides what is done, by the header's name, as it was written."""
    sent = request.headers
    return sorted((name, sent[name].strip()) for name, header in HEADERS.items() if header.decides and name in sent)


def overrides(sent: Sent, *sections: str) -> dict[str, Any]:
    """The settings that the headers set, by dotted name: those of the sections that matter to the request."""
    settings = {HEADERS[name].setting: value for name, value in sent.items()}
    return {setting: value for setting, value in settings.items() if setting.partition(".")[0] in sections}


def merged(requested: Mapping[str, Any], sent: Sent, *sections: str) -> dict[str, Any]:
    """The settings of a request's body and of its headers; raises PreferenceConflictError where they disagree."""
    settings = dict(requested)
    for name, value in sent.items():
        setting = HEADERS[name].setting
        if setting.partition(".")[0] in sections:
            settings[setting] = agreed(setting, settings.get(setting), name, value)
    return settings


def agreed(field: str, in_body: T | None, name: str, in_header: T | None) -> T | None:
    """The one value that body (or address) or header give; raises PreferenceConflictError when they give two."""
    if in_body is not None and in_header is not None and in_body != in_header:
        raise PreferenceConflictError(f"The request's {field} and the header {name} differ. Send one of them.")
    return in_header if in_body is None else in_body


def refused(name: str, why: str) -> InvalidRequestError:
    """The error for a header that cannot be taken as it is; ``why`` is a sentence."""
    return InvalidRequestError(
        f"The header {name} is malformed: {why}", errors=[FieldError(field=name, code="malformed_header", detail=why)]
    )


def parameters(names: Collection[str]) -> list[OpenApiParameter]:
    """The headers as the OpenAPI schema shows them."""
    shown = (HEADERS[name] for name in names)
    return [OpenApiParameter(each.name, each.schema, OpenApiParameter.HEADER, description=each.help) for each in shown]
