"""Reading what a client sends."""

from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import IO, Any

from django.conf import settings
from rest_framework import parsers
from rest_framework.exceptions import ParseError

from apps.core.errors import TooLargeError

#: How many lists and objects may lie inside one another. What is read just below the interpreter's own limit, some 900,
#: could not be written again from a few calls further in.
MAX_DEPTH = 100
TOO_DEEP = f"The JSON is nested more than {MAX_DEPTH} deep."


class JSONParser(parsers.JSONParser):
    """DRF's, except that a body without end, or nested without measure, is the client's error and not ours."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        try:
            value = super().parse(_limited(stream), media_type, parser_context)
        except RecursionError as error:
            raise ParseError(TOO_DEEP) from error
        if is_too_deep(value):
            raise ParseError(TOO_DEEP)
        return value


def is_too_deep(value: Any) -> bool:
    """Whether what was read from JSON is nested beyond ``MAX_DEPTH``; level by level, for the stack has an end, too."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _limited(stream: IO[Any]) -> IO[Any]:
    """The stream, read up to the limit; Django holds only forms and ``request.body`` to it, and DRF reads neither."""
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    content = stream.read(limit + 1)
    if len(content) > limit:
        raise TooLargeError(f"The body has more than {limit:,} bytes. Send less.", limit_bytes=limit)
    return BytesIO(content)
