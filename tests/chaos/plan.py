"""What is done to whom: drawn from a seed, so that one seed breaks the same things in the same order."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Profile = Literal["askable", "silent"]
PROFILES: tuple[Profile, ...] = ("askable", "silent")
#: The name under which the deployment knows the provider of a profile.
PROVIDERS: dict[Profile, str] = {"askable": "askable", "silent": "fake"}

#: ``stream`` is asked for again when it breaks off, of ``keep`` what was received is enough, ``cancel`` is called off.
Kind = Literal["chat", "stream", "keep", "cancel", "document"]
Strike = Literal["", "kill", "kill worker", "stop"]

#: Longer than a call may take for a quick agent, so that its time-out strikes first.
STALL_SECONDS = 6.0
QUICK_TIMEOUT, PATIENT_TIMEOUT = 3, 60
#: Longer than a lease.
STOP_SECONDS = 18.0

USAGES = ("no_usage", "zero_usage", "negative_usage", "absurd_usage", "inconsistent_usage", "text_usage")
_BOTH: list[dict[str, Any]] = [
    {"kind": "429", "retry_after": "1"},
    {"kind": "500"},
    {"kind": "503", "counted": True},
    {"kind": "close"},
    {"kind": "drop"},
    {"kind": "malformed"},
    {"kind": "shape"},
    *({"kind": usage} for usage in USAGES),
]
_STREAM: list[dict[str, Any]] = [
    {"kind": "cut", "events": 4},
    {"kind": "end_early", "events": 5},
    {"kind": "stream_error", "events": 3},
    {"kind": "malformed", "events": 4},
    {"kind": "repeated_usage"},
]
_CHAT: list[dict[str, Any]] = [{"kind": "stall", "seconds": STALL_SECONDS}, {"kind": "drip"}]


@dataclass(frozen=True, kw_only=True)
class Item:
    """One piece of work: a question or a document, when it comes and what it meets."""

    marker: str
    profile: Profile
    kind: Kind
    at: float
    #: The tenant's budget covers only some of its questions.
    tight: bool = False
    #: Its agent waits long for an answer.
    patient: bool = False
    faults: Sequence[dict[str, Any]] = ()
    strike: Strike = ""
    #: The provider refuses it for good.
    refused: bool = False


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happens to processes, broker or database at a moment, whatever they are doing."""

    at: float
    kind: str
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Form:
    """How much of everything, for each profile."""

    seconds: float
    chats: int
    streams: int
    keeps: int
    cancels: int
    documents: int
    tight: int
    strikes: dict[Strike, int]
    #: How often each event happens, in all.
    events: dict[str, int]
    hole_seconds: tuple[float, float]
    #: After so many killed workers, only those that have children are struck, and only these die.
    whole_workers: int = 1
    #: Work to be struck comes in this first part of the time.
    struck_until: float = 0.85
    #: The fewest kills between hold and settle that prove something.
    kills: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    items: Sequence[Item]
    events: Sequence[Event]
    form: Form
    profiles: Sequence[Profile] = field(default=PROFILES)

    @property
    def kinds(self) -> set[str]:
        """Every kind of fault that must hit."""
        provider = {fault["kind"] for item in self.items for fault in item.faults}
        strikes = {STRIKES[item.strike] for item in self.items if item.strike}
        return {f"provider: {kind}" for kind in provider} | strikes | {event.kind for event in self.events} | {REFUSED}


REFUSED = "refused by the budget"
#: How a strike is counted.
STRIKES: dict[Strike, str] = {
    "kill": "killed between hold and settle",
    "kill worker": "killed between hold and settle",
    "stop": "stopped past its lease, then continued",
}


def full(seconds: float) -> Form:
    return Form(
        seconds=seconds,
        chats=26,
        streams=18,
        keeps=6,
        cancels=6,
        documents=8,
        tight=24,
        strikes={"kill": 24, "kill worker": 2, "stop": 4},
        events={
            "child killed": 6,
            "worker killed": 2,
            "message delivered twice": 16,
            "broker flushed": 5,
            "broker in a black hole": 2,
            "broker's connections cut": 3,
            "database restarted": 3,
            "database in a black hole": 1,
            "database's connections cut": 3,
        },
        hole_seconds=(6.0, 20.0),
        whole_workers=8,
        kills=20,
    )


def short(seconds: float) -> Form:
    return Form(
        seconds=seconds,
        chats=8,
        streams=7,
        keeps=2,
        cancels=2,
        documents=2,
        tight=8,
        strikes={"kill": 6, "stop": 2},
        events={
            "child killed": 1,
            "message delivered twice": 4,
            "broker flushed": 2,
            "broker in a black hole": 1,
            "broker's connections cut": 1,
            "database restarted": 1,
            "database's connections cut": 1,
        },
        hole_seconds=(2.0, 3.0),
        struck_until=0.4,
        kills=4,
    )


def control(seconds: float) -> Form:
    """Nothing is struck: a failing provider and questions that come at once tell a till from a naive one."""
    return Form(
        seconds=seconds,
        chats=12,
        streams=4,
        keeps=0,
        cancels=0,
        documents=1,
        tight=12,
        strikes={},
        events={},
        hole_seconds=(0.0, 0.0),
        kills=0,
    )


def draw(seed: int, form: Form, profiles: Sequence[Profile]) -> Plan:
    """The plan of a seed."""
    rng = random.Random(seed)
    items = [item for profile in profiles for item in _items(rng, form, profile)]
    kinds = [kind for kind, times in form.events.items() for _ in range(times)]
    events = [_event(rng, form, kind) for kind in kinds]
    return Plan(
        items=sorted(items, key=lambda item: item.at),
        events=sorted(events, key=lambda event: event.at),
        form=form,
        profiles=profiles,
    )


def _event(rng: random.Random, form: Form, kind: str) -> Event:
    seconds = rng.uniform(*form.hole_seconds) if "hole" in kind else 0.0
    return Event(at=rng.uniform(0.1, 0.95) * form.seconds, kind=kind, seconds=seconds)


def _items(rng: random.Random, form: Form, profile: Profile) -> Iterator[Item]:
    """The work of one profile. Some of it is struck, some meets a failing provider, all of it meets what comes."""
    amounts: dict[Kind, int] = {
        "chat": form.chats,
        "stream": form.streams,
        "keep": form.keeps,
        "cancel": form.cancels,
        "document": form.documents,
    }
    work = [kind for kind, times in amounts.items() for _ in range(times)]
    rng.shuffle(work)
    strikes = [strike for strike, times in form.strikes.items() for _ in range(times)]
    strikes += [""] * (len(work) - len(strikes))
    rng.shuffle(strikes)
    failures = {kind: _failures(rng, kind) for kind in amounts}
    for number, (kind, strike) in enumerate(zip(work, strikes, strict=True)):
        yield Item(
            marker=f"{profile}-{kind}-{number:03}",
            profile=profile,
            kind=kind,
            # Whoever is struck comes early: it takes a lease's time until the work is gone on with.
            at=rng.random() * (form.struck_until if strike else 0.85) * form.seconds,
            patient=strike == "stop",
            faults=[_window(rng, strike, number, kind)] if strike else next(failures[kind]),
            strike=strike,
        )
    yield Item(marker=f"{profile}-refused", profile=profile, kind="chat", at=1, faults=[_REFUSAL], refused=True)
    for number in range(form.tight):
        # Four at once: what fits for one of them must not be given to all.
        at = (number // 4 * 4 + 1) / form.tight * 0.8 * form.seconds
        marker = f"{profile}-tight-{number:03}"
        yield Item(marker=marker, profile=profile, kind="chat", at=at, tight=True, faults=[_LONG_ENOUGH])


#: For the holds of questions that came at once to be there at once.
_LONG_ENOUGH: dict[str, Any] = {"kind": "slow", "seconds": 1.0, "path": "chat"}
_REFUSAL: dict[str, Any] = {"kind": "400", "path": "chat"}


def _window(rng: random.Random, strike: Strike, number: int, kind: Kind) -> dict[str, Any]:
    """A request that takes a while, so that whoever made it can be struck: counted later, before, or never."""
    fault = ("slow", "stall", "close")[number % 3] if strike != "stop" else ("slow", "stall")[number % 2]
    path = "embeddings" if kind == "document" else rng.choice(["chat", "chat", "embeddings"])
    return {"kind": fault, "seconds": rng.uniform(1.5, 2.5), "path": path, "label": strike}


def _failures(rng: random.Random, kind: Kind) -> Iterator[list[dict[str, Any]]]:
    """What a piece of work meets: for a question a fault of its embedding, of its answer, of both; now and then none.

    Never two of one call: where the provider can be asked, the first may settle it, and the second would never hit.
    """
    embedding = _deck(rng, [{**fault, "path": "embeddings"} for fault in _BOTH])
    answer = _deck(rng, [{**fault, "path": "chat"} for fault in _ANSWERS[kind]])
    while True:
        for hand in ([answer], [answer, embedding], [embedding], [answer], []):
            yield [next(deck) for deck in (hand if kind != "document" else hand and [embedding])]


def _deck(rng: random.Random, faults: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every fault in turn, then all of them again in another order."""
    while faults:
        yield from rng.sample(faults, len(faults))


#: How answers of each kind can fail. A stream has no shape to lack.
_STREAMED = [*_STREAM, *_CHAT, *(fault for fault in _BOTH if fault["kind"] != "shape")]
_ANSWERS: dict[Kind, list[dict[str, Any]]] = {
    "chat": [*_CHAT, *_BOTH],
    "stream": _STREAMED,
    "keep": _STREAM,
    "cancel": _STREAM,
    "document": [],
}
