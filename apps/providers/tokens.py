"""How many tokens a text or a request is: the one place that counts, for holds, estimates, windows and chunks."""

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from apps.providers import catalog, encodings, passages
from apps.providers.base import ChatRequest
from apps.providers.encodings import Tokenizer

#: What an unknown model's tokens are counted with: the most recent vocabulary at hand.
ESTIMATE_WITH = "o200k_base"
#: SentencePiece vocabularies put a space before a text, and some add a begin and an end to it.
SPECIAL_TOKENS = 3
#: Stands for what is left out of the middle of a text.
GAP = " …"

#: The part of a text that is left out where it is too long.
LeftOut = Literal["end", "start", "middle"]


@dataclass(frozen=True)
class TokenCount:
    tokens: int
    #: True when the model's own tokenizer is not known and another one counted.
    estimated: bool


def count(text: str, *, provider: str, model: str) -> TokenCount:
    """The tokens of one text.

    Raises :class:`apps.providers.errors.UnknownProviderError`, as everything here does.
    """
    tokenizer, estimated = _tokenizer(provider, model)
    return TokenCount(tokenizer.count(text), estimated)


def count_chat(request: ChatRequest, *, provider: str) -> TokenCount:
    """The input tokens of a request as it is rendered: its passages and what the provider adds around messages."""
    tokenizer, estimated = _tokenizer(provider, request.model)
    framing = catalog.provider(provider).framing
    contents = _contents(request)
    tokens = sum(map(tokenizer.count, contents)) + framing.per_message * len(contents) + framing.per_request
    return TokenCount(tokens, estimated)


def upper_bound(text: str, *, provider: str, model: str) -> int:
    """A number of tokens that the text never exceeds, for holds: exact where the tokenizer is known."""
    return _bounds([text], provider, model)


def upper_bound_chat(request: ChatRequest, *, provider: str) -> int:
    """A number of input tokens that the request never exceeds; its ``max_tokens`` bound the answer."""
    framing = catalog.provider(provider).framing
    contents = _contents(request)
    return (
        _bounds(contents, provider, request.model)
        + framing.bound_per_message * len(contents)
        + framing.bound_per_request
    )


def fit(text: str, tokens: int, *, provider: str, model: str, leave_out: LeftOut = "end") -> str:
    """The text, if it is at most so many tokens long as :func:`count` counts them; else what is left of it."""
    tokenizer = _tokenizer(provider, model)[0]
    if leave_out == "end":
        return tokenizer.head(text, tokens)
    if tokenizer.count(text) <= tokens:
        return text
    return _without_start(tokenizer, text, tokens) if leave_out == "start" else _without_middle(tokenizer, text, tokens)


def longest_text(*, provider: str, model: str) -> int | None:
    """How long a text may be, as :func:`count` counts it, for the model to take it; None where that is not known.

    Where the tokenizer is not known it is half the model's own limit: other vocabularies rarely count twice as many.
    """
    facts = catalog.model(provider, model)
    return facts.context_window if facts.tokenizer else facts.context_window and facts.context_window // 2


def largest_batch(*, provider: str) -> int | None:
    """How long the texts of one call may be together, as :func:`count` counts them; None where no limit is known.

    Half the provider's own limit, because it counts otherwise: Mistral by a tokenizer that is not among ours, OpenAI,
    as its users report, by a quarter of a token for each byte. Neither makes twice as many of ordinary text.
    """
    most = catalog.provider(provider).max_batch_tokens
    return most and most // 2


def _without_start(tokenizer: Tokenizer, text: str, tokens: int) -> str:
    """The longest end that fits, found by halving: a tokenizer reads from the beginning only."""
    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if tokenizer.count(text[-middle:]) <= tokens:
            fits = middle
        else:
            too_long = middle
    return text[len(text) - fits :]


def _without_middle(tokenizer: Tokenizer, text: str, tokens: int) -> str:
    """A beginning and an end of equal length. Joined they may be encoded otherwise than apart: then a little less."""
    for room in range(tokens - tokenizer.count(GAP), 1, -1):
        kept = tokenizer.head(text, room // 2) + GAP + _without_start(tokenizer, text, room - room // 2)
        if tokenizer.count(kept) <= tokens:
            return kept
    return tokenizer.head(text, tokens)


def _contents(request: ChatRequest) -> list[str]:
    return [message.content for message in passages.render(request)]


def _tokenizer(provider: str, model: str) -> tuple[Tokenizer, bool]:
    name = catalog.model(provider, model).tokenizer
    return encodings.tokenizer(name or ESTIMATE_WITH), name is None


def _bounds(texts: Iterable[str], provider: str, model: str) -> int:
    name = catalog.model(provider, model).tokenizer
    exact = encodings.tokenizer(name).count if name else None
    return sum(_bound(text, exact) for text in texts)


def _bound(text: str, exact: Callable[[str], int] | None) -> int:
    """The tokenizer's own count, or as many tokens as bytes.

    No BPE token is less than a byte. Some vocabularies normalise the text first (Qwen NFC, older ones NFKC), which can
    make it longer: the longest form counts.
    """
    if exact is not None and encodings.is_regular(text):
        return exact(text)
    forms = (text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFKC", text))
    return max(len(form.encode(errors="surrogatepass")) for form in forms) + SPECIAL_TOKENS
