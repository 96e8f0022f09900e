"""Streams in tests: how one is asked for, and what its events and rows say."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work
from apps.gateway import streaming
from apps.gateway.streaming import Cancelled, Choice, Delta, Done, Event, Reset
from apps.ledger.models import Attempt, Entry
from apps.ledger.types import TokenCounts
from apps.providers import tokens
from tests.gateway.test_purchase import asked
from tests.personas import Persona

#: The fake's first event is the role: four events are three pieces of text.
EVENTS = 4
PIECES = EVENTS - 1
#: Where the fake's own model will not do.
MODELS = {
    "groq": "llama-3.3-70b-versatile",
    "anthropic": "claude-sonnet-5-5",
    "cohere": "command-a-03-2025",
    "local": "extractive",
}


def stream(ctx: ExecutionContext, question: str, **options: Any) -> Generator[Event, None, None]:
    assert ctx.llm_config is not None
    charge, request = asked(question)
    provider = ctx.llm_config.provider
    request = replace(request, model=MODELS.get(provider, request.model))
    return streaming.stream(
        ctx, charge, Choice(provider=provider, model=request.model, request=lambda: request), **options
    )


def shown(events: list[Event]) -> str:
    """What a reader of the events has before them: the deltas since the last reset."""
    text = ""
    for event in events:
        if isinstance(event, Delta):
            text += event.text
        elif isinstance(event, Reset):
            text = ""
    return text


def kinds(events: list[Event]) -> list[str]:
    """The events' names, with deltas in a row as one."""
    names = [type(event).__name__ for event in events]
    return [name for index, name in enumerate(names) if name != "Delta" or index == 0 or names[index - 1] != "Delta"]


def done(events: list[Event]) -> Done:
    assert isinstance(events[-1], Done)
    return events[-1]


def cancelled(events: list[Event]) -> Cancelled:
    assert isinstance(events[-1], Cancelled)
    return events[-1]


def attempts(persona: Persona) -> list[Attempt]:
    with unit_of_work(persona.ctx):
        return list(Attempt.objects.order_by("number"))


def entries(persona: Persona) -> list[Entry]:
    with unit_of_work(persona.ctx):
        return list(Entry.objects.order_by("id"))


def estimate(question: str, text: str) -> TokenCounts:
    _, request = asked(question)
    return TokenCounts(
        fresh_input_tokens=tokens.count_chat(request, provider="fake").tokens,
        plain_output_tokens=tokens.count(text, provider="fake", model=request.model).tokens,
        source="estimated",
    )


def counts_of(row: Attempt | Entry) -> TokenCounts:
    return TokenCounts(
        fresh_input_tokens=row.fresh_input_tokens,
        cached_input_tokens=row.cached_input_tokens,
        plain_output_tokens=row.plain_output_tokens,
        reasoning_tokens=row.reasoning_tokens,
        source="api" if row.token_source == "api" else "estimated",
    )
