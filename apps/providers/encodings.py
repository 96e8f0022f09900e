"""The tokenizers themselves, by name, loaded once per process and without a network.

``cl100k_base`` and ``o200k_base`` are tiktoken's, from the files that the package bpe-openai carries; ``wordllama`` is
the local model's. Use :mod:`apps.providers.tokens`, which knows which model has which.
"""

import contextlib
import functools
import gzip
import hashlib
import itertools
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from apps.providers import wordvectors

if TYPE_CHECKING:
    import tiktoken

TIKTOKEN_NAMES = frozenset({"cl100k_base", "o200k_base"})
#: tiktoken fails on about a million spaces in a row and slows down well before: longer stretches are cut.
LONGEST_STRETCH = 20_000

_SOURCE = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
_STRETCH = re.compile(rf"\s{{{LONGEST_STRETCH}}}|\S{{{LONGEST_STRETCH}}}")
_loading = threading.Lock()


class Tokenizer(Protocol):
    """Counts and cuts text in the tokens of one encoding. Any text is allowed, special tokens' names included."""

    def count(self, text: str) -> int:
        """The number of tokens of ``text``."""

    def head(self, text: str, tokens: int) -> str:
        """The beginning of ``text``, at most ``tokens`` long."""


def tokenizer(name: str) -> Tokenizer:
    """The tokenizer of that name; a KeyError if there is none."""
    if name == "wordllama":
        return _WordLlama()
    if name in TIKTOKEN_NAMES:
        return _Tiktoken(_tiktoken(name))
    raise KeyError(name)


def is_regular(text: str) -> bool:
    """Whether the text is counted in one piece, so that the count is exactly the tokenizer's."""
    return _STRETCH.search(text) is None


def wellformed(text: str) -> str:
    """The text without lone surrogates, which JSON can carry and UTF-8 cannot."""
    return text.encode(errors="replace").decode()


class _Tiktoken:
    def __init__(self, encoding: "tiktoken.Encoding") -> None:
        self._encoding = encoding

    def count(self, text: str) -> int:
        return sum(len(tokens) for tokens in self._pieces(text))

    def head(self, text: str, tokens: int) -> str:
        ids = list(itertools.islice(itertools.chain.from_iterable(self._pieces(text)), tokens + 1))
        if len(ids) <= tokens:
            return text
        # The cut may fall inside a character, and the shorter text may be encoded differently.
        for kept in range(tokens, 0, -1):
            if self.count(head := self._encoding.decode(ids[:kept], errors="ignore")) <= tokens:
                return head
        return ""

    def _pieces(self, text: str) -> Iterator[list[int]]:
        """The tokens, piece by piece. Names of special tokens are text like any other: users may write them."""
        start = 0
        for stretch in _STRETCH.finditer(text):
            yield self._encoding.encode(text[start : stretch.end()], disallowed_special=())
            start = stretch.end()
        yield self._encoding.encode(text[start:], disallowed_special=())


class _WordLlama:
    def count(self, text: str) -> int:
        return len(wordvectors.encode(wellformed(text)).ids)

    def head(self, text: str, tokens: int) -> str:
        offsets = wordvectors.encode(wellformed(text)).offsets
        if len(offsets) <= tokens:
            return text
        # A character may be several tokens, and the shorter text may be encoded differently.
        for kept in range(tokens, 0, -1):
            if self.count(head := text[: offsets[kept - 1][1]]) <= tokens:
                return head
        return ""


def _tiktoken(name: str) -> "tiktoken.Encoding":
    with _loading:
        return _load(name)


@functools.cache
def _load(name: str) -> "tiktoken.Encoding":
    """Let tiktoken load the encoding from a cache folder that holds just its file; not thread-safe.

    tiktoken keeps what it has loaded, so the folder is of use once, and one of its own needs no care for other
    processes. tiktoken checks the file against its own checksum.
    """
    import tiktoken  # noqa: PLC0415 - only processes that count need it

    with tempfile.TemporaryDirectory(prefix="nooble-encoding-") as folder:
        file = Path(folder, hashlib.sha1(_SOURCE.format(name).encode(), usedforsecurity=False).hexdigest())
        file.write_bytes(gzip.decompress(_packed(name).read_bytes()))
        with _environment("TIKTOKEN_CACHE_DIR", folder):
            return tiktoken.get_encoding(name)


def _packed(name: str) -> Path:
    # Found without importing the package, whose own encoder takes half a second to load.
    package = find_spec("bpe_openai")
    assert package is not None, "bpe-openai is in requirements.txt"
    return Path((package.submodule_search_locations or [""])[0], "data", f"{name}.tiktoken.gz")


@contextlib.contextmanager
def _environment(variable: str, value: str) -> Iterator[None]:
    before = os.environ.get(variable)
    os.environ[variable] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before
