"""From bytes to text, and from any text to one that a tokeniser, a splitter, PostgreSQL and a reader can work with."""

import codecs
import re
import unicodedata

from apps.collections.errors import NotTextError

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: What a page may say of its encoding. Python knows more names: some are slow, some are no encodings of text.
_DECLARABLE = re.compile(
    r"utf-?8|us-ascii|iso-8859-\d+|windows-(874|125\d)|koi8-[ru]|gb(k|2312|18030)|big5|euc-(jp|kr)|shift_jis",
    re.IGNORECASE,
)
_DECLARATION = re.compile(rb"(?:charset|encoding)\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)

#: Newlines, tabs and escape are left out: they stand in text, the last one in the output of terminals.
_CONTROLS = bytes({*range(0x20), 0x7F} - set(b"\t\n\v\f\r\x1b"))
#: Text has hardly any control characters; of random bytes one in ten is one.
_MOST_CONTROLS = 0.01
#: Western text is mostly ASCII; another alphabet read as Windows-1252 is not.
_MOST_NON_ASCII = 0.4

_NEWLINES = re.compile(r"\r\n?|[\v\f\x85\u2028\u2029]")
#: Controls, byte order marks, soft hyphens, zero-width spaces, direction overrides, tags and halves of surrogate
#: pairs: what no reader sees, but a model would read, and some of it PostgreSQL cannot hold.
_UNSEEN = re.compile(
    "[\0-\x08\x0e-\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
#: PDFs hold them as one character each, which no search would find.
_LIGATURES = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st"}

# Tokeniser and splitter take time that grows with the square of a stretch without a break, and of a line in which
# Markdown's markers nest. The look-behinds keep these expressions themselves linear: one try per run.
_LONGEST_STRETCH = 4_000
_STRETCH_PIECE = 1_000
_LONGEST_LINE = 10_000
_LONG_STRETCH = re.compile(rf"(?<!\S)\S{{{_LONGEST_STRETCH + 1},}}")
_LONG_LINE = re.compile(rf"^.{{{_LONGEST_LINE + 1},}}", re.MULTILINE)
_LINE_PIECE = re.compile(rf".{{1,{_LONGEST_LINE - 1}}}(?:\s|$)")
#: 64: more than any indentation needs.
_LONG_BLANK = re.compile(r"(?<![^\S\n])[^\S\n]{64,}")
_TRAILING_BLANK = re.compile(r"(?<![^\S\n])[^\S\n]+$", re.MULTILINE)
_EMPTY_LINES = re.compile(r"\n{3,}")


def decode(data: bytes) -> str:
    """The text in ``data``: by its byte order mark, as UTF-8, or as Windows-1252 when it is mostly ASCII.

    A few bad bytes in UTF-8 and a few control characters, NUL among them, are forgiven: crashed programs leave such
    logs. Raises :class:`NotTextError` on anything else.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            text = data.decode(encoding, errors="replace")
            _refuse_binary(text.encode())
            return text
    _refuse_binary(data)
    return _without_mark(data)


def decode_html(data: bytes) -> str:
    """The text of a page: by the encoding it declares in its first kilobyte, else as any other text."""
    declared = _DECLARATION.search(data[:1024])
    encoding = declared[1].decode() if declared else ""
    if _DECLARABLE.fullmatch(encoding) and not data.startswith(tuple(mark for mark, _ in _BYTE_ORDER_MARKS)):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            pass  # pages declare wrongly often enough
    return decode(data)


def clean(text: str) -> str:
    """``text`` in one form: NFC, ``\\n`` for newlines, nothing invisible, at most one empty line in a row, and no
    stretch, line or blank so long that work on it becomes slow. Ligatures are spelled out. What a reader sees stays.
    """
    text = _UNSEEN.sub("", _NEWLINES.sub("\n", text)).translate(_LIGATURES)
    # In this order: blanks before lines, which they make long; stretches before NFC, whose sorting of marks is
    # quadratic, too.
    text = _TRAILING_BLANK.sub("", _LONG_BLANK.sub(" ", text))
    text = _LONG_LINE.sub(_cut_line, _LONG_STRETCH.sub(_cut_stretch, text))
    return _EMPTY_LINES.sub("\n\n", unicodedata.normalize("NFC", text)).strip("\n")


def _refuse_binary(data: bytes) -> None:
    controls = len(data) - len(data.translate(None, _CONTROLS))
    if controls > len(data) * _MOST_CONTROLS:
        raise NotTextError("The file holds binary data. Upload it under the name of its true format.")


def _without_mark(data: bytes) -> str:
    text = data.decode("utf-8", errors="replace")
    bad = text.count("\ufffd")
    # In true UTF-8 hardly any character is bad; in another encoding nearly all are that are not ASCII.
    return text if bad * 2 <= _foreign_count(text) - bad else _western(data)


def _western(data: bytes) -> str:
    try:
        text = data.decode("windows-1252")
    except UnicodeDecodeError as error:
        raise NotTextError("The encoding of the text is not known. Save it as UTF-8.") from error
    if _foreign_count(text) > len(text) * _MOST_NON_ASCII:
        raise NotTextError("The encoding of the text is not known. Save it as UTF-8.")
    return text


def _foreign_count(text: str) -> int:
    return len(text) - len(text.encode("ascii", errors="ignore"))


def _cut_stretch(stretch: re.Match[str]) -> str:
    text = stretch[0]
    return " ".join(text[start : start + _STRETCH_PIECE] for start in range(0, len(text), _STRETCH_PIECE))


def _cut_line(line: re.Match[str]) -> str:
    # After the stretches, every piece finds a blank to end at.
    return "\n".join(piece.rstrip() for piece in _LINE_PIECE.findall(line[0]))
