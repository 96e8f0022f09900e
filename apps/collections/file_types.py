"""The kinds of files that nooble reads, and how it tells them apart: by what a file holds, then by its name."""

from dataclasses import dataclass
from pathlib import PurePath

from apps.collections.errors import DocumentEncryptedError, DocumentUnreadableError
from apps.core.errors import UnsupportedMediaTypeError

_OFFICE = "application/vnd.openxmlformats-officedocument."


@dataclass(frozen=True, kw_only=True)
class FileType:
    """A kind of file. ``mark``: what only such a zip archive holds. ``paged``: its pages have numbers to cite."""

    content_type: str
    extensions: tuple[str, ...]
    is_text: bool = False
    paged: bool = False
    mark: bytes = b""


PDF = FileType(content_type="application/pdf", extensions=(".pdf",), paged=True)
DOCX = FileType(
    content_type=f"{_OFFICE}wordprocessingml.document", extensions=(".docx", ".docm"), mark=b"word/document"
)
PPTX = FileType(
    content_type=f"{_OFFICE}presentationml.presentation",
    extensions=(".pptx", ".pptm"),
    paged=True,
    mark=b"ppt/presentation",
)
XLSX = FileType(content_type=f"{_OFFICE}spreadsheetml.sheet", extensions=(".xlsx", ".xlsm"), mark=b"xl/workbook")
EMAIL = FileType(content_type="message/rfc822", extensions=(".eml",), is_text=True)
HTML = FileType(content_type="text/html", extensions=(".html", ".htm", ".xhtml"), is_text=True)
MARKDOWN = FileType(content_type="text/markdown", extensions=(".md", ".markdown"), is_text=True)
CSV = FileType(content_type="text/csv", extensions=(".csv",), is_text=True)
TSV = FileType(content_type="text/tab-separated-values", extensions=(".tsv",), is_text=True)
JSON = FileType(content_type="application/json", extensions=(".json",), is_text=True)
#: Also what any other readable text is taken for: logs, configuration, source code.
PLAIN = FileType(content_type="text/plain", extensions=(".txt", ".text"), is_text=True)

SUPPORTED = (PDF, DOCX, PPTX, XLSX, HTML, MARKDOWN, PLAIN, CSV, TSV, JSON, EMAIL)

_BY_EXTENSION = {extension: kind for kind in SUPPORTED for extension in kind.extensions}
_BY_CONTENT_TYPE = {kind.content_type: kind for kind in SUPPORTED}
_IN_ZIP = tuple(kind for kind in SUPPORTED if kind.mark)

#: The old Office format, which is also the envelope of an encrypted new one.
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")


def named_type(name: str, content_type: str | None = None) -> FileType | None:
    """The kind that a name's ending says; without a known ending the one that the client says; else None."""
    by_name = _BY_EXTENSION.get(PurePath(name).suffix.lower())
    return by_name or _BY_CONTENT_TYPE.get((content_type or "").partition(";")[0].strip().lower())


def detect(data: bytes, *, name: str, content_type: str | None) -> FileType:
    """The kind of a file. A name may choose among kinds of text, since those look alike, and never more.

    Raises :class:`UnsupportedMediaTypeError`, :class:`DocumentEncryptedError` (Office with a password), or
    :class:`DocumentUnreadableError` when the name promises a format that the content is not.
    """
    start = data[:1024].lstrip()
    if start.startswith(b"%PDF-"):
        return PDF
    if start.startswith(b"PK\x03\x04"):
        return _office_type(data, named_type(name, content_type))
    if start.startswith(_OLE):
        raise _refusal_of_ole(data)
    if start.startswith(b"{\\rtf"):
        raise UnsupportedMediaTypeError("RTF is not read. Save the document as DOCX or PDF.")
    return _text_type(start, named_type(name, content_type) or PLAIN)


def _office_type(data: bytes, named: FileType | None) -> FileType:
    # An archive's own list of names is at its end, behind everything embedded in it: the last mark is the outer one.
    kind = max(_IN_ZIP, key=lambda kind: data.rfind(kind.mark))
    if kind.mark in data:
        return kind
    if named in _IN_ZIP:
        raise _mismatch(named)
    raise UnsupportedMediaTypeError("Archives are not read. Upload the documents in it one by one.")


def _refusal_of_ole(data: bytes) -> Exception:
    if _ENCRYPTED_PACKAGE in data:
        return DocumentEncryptedError("The document asks for a password. Save it without one and upload it again.")
    return UnsupportedMediaTypeError("Old Office formats are not read. Save the document as DOCX, PPTX, XLSX or PDF.")


def _text_type(start: bytes, named: FileType) -> FileType:
    if start.removeprefix(b"\xef\xbb\xbf").lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        return HTML
    if not named.is_text:
        raise _mismatch(named)
    return named


def _mismatch(named: FileType) -> DocumentUnreadableError:
    return DocumentUnreadableError(
        f"The name says {named.extensions[0]}, but the content is something else, or damaged."
    )
