"""The program that reads one document: its bytes on standard input, its pages as JSON on standard output.

A program of its own that sees nothing of the project (see :mod:`apps.collections.sandbox`). Its arguments are the
content type, ``paged`` or ``whole``, and the most characters it may return. It answers
``{"title": str, "pages": [[number or null, markdown], …]}`` or ``{"error": code}``.
"""

import asyncio
import json
import os
import resource
import sys
from typing import Any

import xberg

_CONFIGURATION = xberg.ExtractionConfig(
    output_format=xberg.OutputFormat("markdown"),
    use_cache=False,
    disable_ocr=True,
    max_archive_depth=0,
    pages=xberg.PageConfig(extract_pages=True),
    concurrency=xberg.ConcurrencyConfig(max_threads=1),
    # The kernel's limits are the true ones; the parser's own refuse ordinary spreadsheets, which compress well.
    security_limits=xberg.SecurityLimits(max_table_cells=2_000_000, max_compression_ratio=1_000),
    content_filter=xberg.ContentFilterConfig(include_footnotes=True),
    html_options=xberg.ConversionOptions(
        # As "metadata" it would write a garbled heading; as "navigation" it would drop a page's header and title.
        extract_metadata=False,
        exclude_selectors=["nav"],
        inline_data_media="alt_text_only",
        compact_tables=True,
        preprocessing=xberg.PreprocessingOptions(preset="minimal", remove_navigation=False, remove_forms=False),
    ),
)


async def extract(data: bytes, content_type: str) -> xberg.ExtractedDocument:
    """Parse ``data`` with no way left to open a file or a connection."""
    # The parser's own threads and event loop need descriptors: they are made by a first, trivial document.
    await xberg.extract(xberg.ExtractInput(kind="bytes", bytes=b"<p>-", mime_type="text/html"), _CONFIGURATION)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    source = xberg.ExtractInput(kind="bytes", bytes=data, mime_type=content_type)
    return (await xberg.extract(source, _CONFIGURATION)).results[0]


def pages(document: xberg.ExtractedDocument, *, paged: bool) -> list[tuple[int | None, str]]:
    """The pages with their numbers, or everything as one page without: other formats' pages are not a reader's."""
    if not (paged and document.pages):
        return [(None, document.content)]
    return [
        (page.page_number, "\n\n".join(filter(None, (page.content, page.speaker_notes)))) for page in document.pages
    ]


def failure(message: str) -> str:
    """The code for what the parser says: it raises one type of exception for everything."""
    message = message.lower()
    if "encrypted" in message or "password" in message:
        return "document_encrypted"
    return "document_too_complex" if "limit exceeded" in message else "document_unreadable"


def answer(data: bytes, content_type: str, *, paged: bool, most_characters: int) -> dict[str, Any]:
    try:
        document = asyncio.run(extract(data, content_type))
    except MemoryError:
        return {"error": "document_too_complex"}
    except BaseException as error:  # noqa: BLE001 - a panic of the parser is not an Exception
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return {"error": failure(str(error))}
    found = pages(document, paged=paged)
    if sum(len(text) for _, text in found) > most_characters:
        return {"error": "too_large"}
    # A message's title is its subject.
    return {"title": document.metadata.title or document.metadata.subject or "", "pages": found}


def main() -> None:
    content_type, layout, most_characters = sys.argv[1:4]
    data = sys.stdin.buffer.read()
    result = answer(data, content_type, paged=layout == "paged", most_characters=int(most_characters))
    sys.stdout.buffer.write(json.dumps(result, ensure_ascii=False).encode())
    sys.stdout.flush()
    # The parser's threads would crash the interpreter, now and then, on its ordinary way out.
    os._exit(0)


if __name__ == "__main__":
    main()
