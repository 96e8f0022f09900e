"""How the fake provider is told to fail: faults are matched to requests, in order, a number of times each.

``{"kind": "429", "match": {"path": "chat", "request_id": "…", "contains": "…"}, "times": 1, …}``; ``times`` null means
always, an empty ``match`` every request; ``label`` is noted on the arrivals that it strikes. Further members by kind:

=================  ====================================================================================================
``301`` … ``529``  that status; ``retry_after`` (text of the header), ``retry_after_ms``, ``message``, ``code``,
                   ``location`` (of a redirect: another server, whose same path is meant), and ``counted`` true when the
                   work is counted all the same; ``body``: "cut", "drip" as below
``close``          accept the request, wait ``seconds`` (0), then close the connection; nothing is counted
``drop``           count it, keep the answer for a lookup, then close the connection without a word
``stall``          count it, wait ``seconds``, then answer: the caller's time-out strikes first
``slow``           wait ``seconds``, then count and answer
``hold``           wait until ``POST /control/release``, then count and answer
``drip``           count it, then send what never becomes an answer, bit by bit, until the caller has gone
``cut``            close the connection in the middle: half-way through the body, or after ``events`` moments of a
                   stream (2: what opens it, and a word)
``cut_after``      close the connection after a stream has said everything, before it ends properly
``pause``          of a stream, wait ``seconds`` after ``events`` moments, then go on
``end_early``      end a stream properly after ``events`` moments, before it says that it finished
``stream_error``   an error as an event of a stream after ``events`` moments
``malformed``      200 with a body, or an event, that is no JSON
``bottomless``     200 with a body, or an event, of arrays in arrays without an end
``shape``          200 with JSON that lacks what matters: no choices, one vector too few
``no_text``        an answer that is a number, or ``content``
``finish``         an answer of ``text`` (as it would be) that ends for ``reason``
``line_breaks``    answer text that holds U+2028 and U+0085, unescaped
``null_characters``  answer text, and the reason it ends for, that hold U+0000
``floats``         vectors as lists of numbers, whatever was asked for
``no_vectors``, ``nan``, …   embeddings that cannot be: see ``VECTORS``
``repeated_usage`` a stream tells a preliminary usage before the true one
``usage``          tell ``usage`` instead of the truth; null: tell none
``no_usage``, ``zero_usage``, ``negative_usage``, ``absurd_usage``, ``inconsistent_usage``, ``text_usage``   such usage
=================  ====================================================================================================
"""

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tests.fakes.answers import Reply

USAGES: dict[str, dict[str, Any] | None] = {
    "no_usage": None,
    "zero_usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    "negative_usage": {"prompt_tokens": 9, "completion_tokens": -3, "total_tokens": 6},
    "absurd_usage": {"prompt_tokens": 10**12, "completion_tokens": 1, "total_tokens": 10**12 + 1},
    "inconsistent_usage": {
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 10},
    },
    "text_usage": {"prompt_tokens": "9", "completion_tokens": "3", "total_tokens": "12"},
}
REDIRECTS = frozenset({"301", "302", "303", "307", "308"})
REFUSALS = frozenset({"400", "401", "403", "404", "408", "413", "422", "429", "499"})
STATUSES = REDIRECTS | REFUSALS | {"500", "502", "503", "504", "529"}
#: What ends a stream in the middle.
BREAKING_OFF = frozenset({"cut", "end_early", "stream_error", "malformed", "bottomless"})
#: What ``data`` of embeddings is instead, made of what it should be.
VECTORS: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "no_vectors": lambda rows: [],
    "null_vectors": lambda rows: None,
    "one_missing": lambda rows: rows[1:],
    "one_too_many": lambda rows: [*rows, {**rows[0], "index": len(rows)}],
    "index_missing": lambda rows: [{"embedding": row["embedding"]} for row in rows],
    "index_twice": lambda rows: [{**row, "index": 0} for row in rows],
    "index_beyond": lambda rows: [{**row, "index": row["index"] + 1} for row in rows],
    "no_numbers": lambda rows: [{**row, "embedding": None} for row in rows],
    "no_base64": lambda rows: [{**row, "embedding": "not base64"} for row in rows],
    "words": lambda rows: _of_numbers(rows, "words"),
    "nan": lambda rows: _of_numbers(rows, math.nan),
    "infinite": lambda rows: _of_numbers(rows, math.inf),
    "beyond_floats": lambda rows: _of_numbers(rows, 10**400),
    "overflowing": lambda rows: _of_numbers(rows, 1e308),
    "all_zero": lambda rows: _of_numbers(rows, 0),
    "nested": lambda rows: [{**row, "embedding": [[number] for number in row["embedding"]]} for row in rows],
    "another_size": lambda rows: [{**row, "embedding": [0.5] * 8} for row in rows],
}
KINDS = (
    STATUSES
    | USAGES.keys()
    | VECTORS.keys()
    | BREAKING_OFF
    | {
        "close",
        "drop",
        "stall",
        "slow",
        "shape",
        "no_text",
        "finish",
        "cut_after",
        "pause",
        "line_breaks",
        "null_characters",
    }
    | {"hold", "pause", "drip", "floats", "repeated_usage", "usage"}
)


class Script:
    """The faults that are still to come. Safe to use from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[dict[str, Any]] = []

    def add(self, faults: list[dict[str, Any]]) -> None:
        unknown = [fault.get("kind") for fault in faults if fault.get("kind") not in KINDS]
        if unknown:
            raise ValueError(f"no such kind: {unknown}")
        with self._lock:
            self._faults += [{"times": 1, **fault} for fault in faults]

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def take(self, *, path: str, request_id: str, body: str) -> dict[str, Any]:
        """The first fault meant for this request, used up by one; empty when it is to be answered well."""
        with self._lock:
            for fault in self._faults:
                if fault["times"] != 0 and _matches(fault.get("match", {}), path, request_id, body):
                    if fault["times"] is not None:
                        fault["times"] -= 1
                    return fault
        return {}


def _matches(match: Mapping[str, str], path: str, request_id: str, body: str) -> bool:
    return (
        match.get("path", "") in path
        and match.get("request_id", request_id) == request_id
        and match.get("contains", "") in body
    )


def told(reply: Reply, fault: Mapping[str, Any]) -> Reply:
    """The answer as it is sent, which is not always the answer that was counted."""
    kind, body = fault.get("kind"), dict(reply.body)
    text: Any = reply.text
    if kind == "usage" or kind in USAGES:
        body["usage"] = fault["usage"] if kind == "usage" else USAGES[kind]
        if body["usage"] is None:
            del body["usage"]
    elif kind == "shape":
        body |= {"choices": []} if "choices" in body else {"data": body["data"][1:]}
    elif kind == "no_text":
        text = fault.get("content", 42)
        body["choices"] = [{**body["choices"][0], "message": {"role": "assistant", "content": text}}]
    elif kind == "finish":
        text = fault.get("text", reply.text)
        message = {"role": "assistant", "content": text}
        body["choices"] = [{**body["choices"][0], "message": message, "finish_reason": fault["reason"]}]
    elif kind in VECTORS:
        body["data"] = VECTORS[kind](body["data"])
    elif kind == "line_breaks":
        text = reply.text.replace(" ", "\u2028", 1) + "\x85"
        body["choices"] = [{**body["choices"][0], "message": {"role": "assistant", "content": text}}]
    elif kind == "null_characters":
        text = reply.text.replace(" ", "\0", 1)
        message = {"role": "assistant", "content": text}
        body["choices"] = [{**body["choices"][0], "message": message, "finish_reason": "st\0p"}]
    return replace(reply, body=body, text=text)


def _of_numbers(rows: list[dict[str, Any]], number: Any) -> list[dict[str, Any]]:
    """Vectors of the size that was asked for, the last one of nothing but this."""
    size = len(rows[0]["embedding"])
    return [*rows[:-1], {**rows[-1], "embedding": [number] * size}]
