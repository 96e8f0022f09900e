"""Reading what a client sends."""

from collections.abc import Mapping
from io import BytesIO
from typing import IO, Any

from django.conf import settings
from rest_framework import parsers
from rest_framework.exceptions import ParseError

from apps.core.errors import TooLargeError


class JSONParser(parsers.JSONParser):
    """DRF's, except that a body without end, or nested beyond what Python reads, is the client's error and not ours."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        try:
            return super().parse(_limited(stream), media_type, parser_context)
        except RecursionError as error:
            raise ParseError("The JSON is nested too deeply.") from error


def _limited(stream: IO[Any]) -> IO[Any]:
    """The stream, read up to the limit; Django holds only forms and ``request.body`` to it, and DRF reads neither."""
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    content = stream.read(limit + 1)
    if len(content) > limit:
        raise TooLargeError(f"The body has more than {limit:,} bytes. Send less.", limit_bytes=limit)
    return BytesIO(content)
