"""The OpenAPI schema: what all operations have in common, so that a view says only what is its own.

An action's docstring is its summary (the first sentence) and its description; its operation id is its verb and the
nouns of its path. What it answers when it does not succeed stands beside it as ``@raises(…)``, in error classes: their
status, code and title are what is shown, so that no code can be documented that does not exist.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, TypeVar

from django.apps import apps
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ComponentRegistry, ResolvedComponent
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema_serializer
from rest_framework import serializers

from apps.core import errors
from apps.core.api import examples, exceptions, idempotency
from apps.core.errors import FieldError, NoobleError
from apps.core.headers import LABEL

T = TypeVar("T")
Parameter = OpenApiParameter | serializers.Serializer[Any] | type[serializers.Serializer[Any]]

_VERBS = {"list": "list", "create": "create", "retrieve": "get", "partial_update": "update", "destroy": "delete"}
_END_OF_SENTENCE = re.compile(r"\.(?=\s|$)")
_RETRY_AFTER = {"Retry-After": {"description": "How many seconds to wait.", "schema": {"type": "integer"}}}
#: With what a plan's limit of requests is told, wherever an answer may have it.
_RATE_LIMITS = {
    "RateLimit-Policy": "What the tenant's plan allows: `q` requests in `w` seconds. Absent where it sets no limit, "
    "where the request was refused before it was counted, and while the limits are out of order.",
    "RateLimit": "What is left of it: `r` requests, and no more for `t` seconds. Absent where the policy is.",
}
_EXAMPLE_FIELDS = (FieldError(field="name", code="required", detail="This field is required."),)


class FieldProblemSerializer(serializers.Serializer[Any]):
    """What is wrong with one field or header."""

    field = serializers.CharField()
    code = serializers.CharField()
    detail = serializers.CharField()


class ProblemSerializer(serializers.Serializer[Any]):
    """An error (RFC 9457). `code` is stable; `detail` says what happened this time, and what to do next."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField()
    detail = serializers.CharField()
    request_id = serializers.CharField()
    errors = FieldProblemSerializer(many=True)  # type: ignore[assignment] # a field; DRF's property of the name stays


def raises(*problems: type[NoobleError]) -> Callable[[T], T]:
    """Say what a view, or one of its actions, answers when it does not succeed."""

    def decorate(target: T) -> T:
        target.problems = problems  # type: ignore[attr-defined]
        return target

    return decorate


def example(value: Any, *, media_type: str = "application/json") -> Callable[[type[T]], type[T]]:
    """Give a serializer its example; it stands with every request and answer of that shape."""

    def decorate(serializer: type[T]) -> type[T]:
        name = serializer.__name__.removesuffix("Serializer")
        shown = OpenApiExample(name, value, media_type=media_type, status_codes=["200", "201", "202"])
        return extend_schema_serializer(examples=[shown])(serializer)

    return decorate


def header(name: str, description: str, kind: Any = str, **more: Any) -> OpenApiParameter:
    """A header that a request may carry. ``kind``: a type or a schema."""
    return OpenApiParameter(name, kind, OpenApiParameter.HEADER, description=description, **more)


REQUEST_ID = header("X-Request-ID", "Names the request in logs and errors; generated if absent, and echoed.", LABEL)
IDEMPOTENCY_KEY = header(
    "Idempotency-Key",
    "Sent again with the same body and headers within seven days, the first response is given again and nothing "
    "happens twice.",
    {"type": "string", "pattern": r"^[\x21-\x7e]{1,255}$"},
)
REPLAYED = header(
    "Idempotent-Replayed",
    "`true` when this is the first response again.",
    {"type": "string", "enum": ["true"]},
    response=[200, 201, 202],
)


class Schema(AutoSchema):
    """One operation, as nooble describes it."""

    def get_operation(
        self, path: str, path_regex: str, path_prefix: str, method: str, registry: ComponentRegistry
    ) -> dict[str, Any] | None:
        operation = super().get_operation(path, path_regex, path_prefix, method, registry)
        if operation is not None:
            for status, response in operation["responses"].items():
                response["description"] = response["description"] or HTTPStatus(int(status)).phrase
            operation["responses"] |= self._problem_responses(operation)
            self._add_rate_limits(operation["responses"])
        return operation

    def get_operation_id(self) -> str:
        """``listAgents``, ``createAgent``, ``searchCollection``, ``listConversationMessages``."""
        nouns = [part for part in self.path.split("/")[3:] if not part.startswith("{")]
        verb = _VERBS.get(self._action) or ("list" if self.method == "GET" else nouns.pop())
        plural = nouns.pop() if verb == "list" else ""
        words = [*(noun.removesuffix("s") for noun in nouns), plural]
        return verb + "".join(part.title() for word in words for part in word.split("-"))

    def get_summary(self) -> str:
        return _END_OF_SENTENCE.split(" ".join(self.get_description().split()))[0]

    def get_tags(self) -> list[str]:
        """The room whose view it is, by the name it has in the admin."""
        config = apps.get_containing_app_config(type(self.view).__module__)
        return [str(config.verbose_name)] if config else []

    def get_override_parameters(self) -> list[Parameter]:
        return [REQUEST_ID, IDEMPOTENCY_KEY, REPLAYED] if self.method == "POST" else [REQUEST_ID]

    @property
    def _action(self) -> str:
        return str(getattr(self.view, "action", ""))

    def _add_rate_limits(self, responses: dict[str, Any]) -> None:
        """Any answer may have them but one: without a valid key no plan is known."""
        for status, response in responses.items():
            if status != "401":
                limits = {name: self._rate_limit(name).ref for name in _RATE_LIMITS}
                response["headers"] = {**response.get("headers", {}), **limits}

    def _rate_limit(self, name: str) -> ResolvedComponent:
        component = ResolvedComponent(  # type: ignore[no-untyped-call]
            name=name,
            type=ResolvedComponent.HEADER,
            schema={"description": _RATE_LIMITS[name], "schema": {"type": "string"}},
            object=name,
        )
        self.registry.register_on_missing(component)
        return component

    def _problem_responses(self, operation: dict[str, Any]) -> dict[str, Any]:
        by_status: defaultdict[int, dict[str, type[NoobleError]]] = defaultdict(dict)
        for problem in self._problems(operation):
            by_status[problem.status].setdefault(problem.code, problem)
        responses = {str(status): self._problem_response(by_status[status]) for status in sorted(by_status)}
        responses["429"]["headers"] = _RETRY_AFTER
        return responses

    def _problems(self, operation: dict[str, Any]) -> Iterator[type[NoobleError]]:
        """What an operation answers for its kind, then what its view and its action say."""
        yield errors.InvalidRequestError
        yield errors.RateLimitedError
        if any(parameter["name"] == "cursor" for parameter in operation.get("parameters", ())):
            yield errors.NotFoundError
        if "requestBody" in operation:
            yield from (errors.TooLargeError, errors.UnsupportedMediaTypeError)
        if self.method == "POST":
            yield from (idempotency.IdempotencyKeyInUseError, idempotency.IdempotencyKeyReusedError)
        yield from getattr(self.view, "problems", ())
        yield from getattr(getattr(self.view, self._action), "problems", ())

    def _problem_response(self, problems: dict[str, type[NoobleError]]) -> dict[str, Any]:
        problem_document = self.resolve_serializer(ProblemSerializer, "response")
        # Some say more than all do (RFC 9457, 3.2): `budget_exceeded` how much is left, `too_large` what the limit is.
        problem_document.schema["additionalProperties"] = {}
        shown = {code: self._problem_example(problem).ref for code, problem in problems.items()}
        return {
            "description": "\n".join(f"- `{code}`: {problem.title()}" for code, problem in problems.items()),
            "content": {exceptions.CONTENT_TYPE: {"schema": problem_document.ref, "examples": shown}},
        }

    def _problem_example(self, problem: type[NoobleError]) -> ResolvedComponent:
        fields = _EXAMPLE_FIELDS if problem is errors.InvalidRequestError else ()
        value = exceptions.document(problem(errors=fields), examples.REQUEST_ID)
        component = ResolvedComponent(  # type: ignore[no-untyped-call]
            name=problem.code,
            type=ResolvedComponent.EXAMPLE,
            schema={"summary": problem.title(), "value": value},
            object=problem,
        )
        self.registry.register_on_missing(component)
        return component
