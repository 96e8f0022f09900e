"""Every setting of a request's work, defined once, and the cascade that decides its value.

Precedence: request (header or body) → agent → tier → deployment. Who won is recorded for each setting, so that an
answer's configuration can always be explained.
"""

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from apps.core.errors import FieldError, InvalidRequestError


class Level(enum.StrEnum):
    """Who may set something, strongest first."""

    REQUEST = "request"
    AGENT = "agent"
    TIER = "tier"
    DEPLOYMENT = "deployment"


class InvalidSettingError(InvalidRequestError):
    """A setting has a value it cannot have."""

    code = "invalid_setting"


EVERYWHERE = frozenset(Level)
NOT_PER_REQUEST = EVERYWHERE - {Level.REQUEST}
#: How collections are embedded and cut is said where they are made, not by agents that search them.
NOT_PER_AGENT = EVERYWHERE - {Level.AGENT}
#: Neither a request nor an agent has a word for it.
NOT_PER_QUESTION = frozenset({Level.TIER, Level.DEPLOYMENT})
#: Of a setting that is an object: how many members it has at most, and of how many characters their names are. It
#: travels in the context.
MAX_MEMBERS, LONGEST_NAME = 16, 64


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting: dotted name, type, range, default, and the levels that may set it. A list is one of texts."""

    name: str
    type: type
    help: str
    default: Any = None
    #: A Django setting that holds the deployment's value.
    deployment: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    #: The kinds of work that it may differ by: below a request, ``<name>.<kind>`` goes before ``<name>``.
    kinds: tuple[str, ...] = ()
    levels: frozenset[Level] = EVERYWHERE

    def accept(self, value: Any) -> Any:
        """The value, in its type and range; raises InvalidSettingError."""
        whole = self.type is float and type(value) is int
        if type(value) is not self.type and not whole:
            raise self._refused(f"must be {self.type.__name__}")
        if isinstance(value, list) and not all(isinstance(member, str) for member in value):
            raise self._refused("must be a list of texts")
        if self.choices and value not in self.choices:
            raise self._refused(f"must be one of {', '.join(self.choices)}")
        if isinstance(value, dict) and (len(value) > MAX_MEMBERS or any(len(name) > LONGEST_NAME for name in value)):
            raise self._refused(f"must have at most {MAX_MEMBERS} members, with names of {LONGEST_NAME} characters")
        if isinstance(value, int | float) and not self._in_range(value):
            raise self._refused(f"must be between {self.minimum} and {self.maximum}")
        # Not before it is known to be in range: there are whole numbers that no float holds.
        return float(value) if whole else value

    def names(self, kinds: Collection[str]) -> list[str]:
        """What it may be called in one level, first what goes first: for these kinds of work, then for all."""
        return [*(f"{self.name}.{kind}" for kind in self.kinds if kind in kinds), self.name]

    def _in_range(self, value: float) -> bool:
        return (self.minimum is None or value >= self.minimum) and (self.maximum is None or value <= self.maximum)

    def _refused(self, why: str) -> InvalidSettingError:
        problem = FieldError(field=self.name, code="invalid", detail=f"It {why}.")
        return InvalidSettingError(f"{self.name} {why}.", errors=[problem])


_ALL = [
    Setting(name="llm_config.provider", type=str, deployment="DEFAULT_CHAT_PROVIDER", help="Who answers."),
    Setting(name="llm_config.model", type=str, deployment="DEFAULT_CHAT_MODEL", help="The model that answers."),
    Setting(
        name="llm_config.temperature",
        type=float,
        default=0.5,
        minimum=0,
        maximum=2,
        kinds=("rag", "chat"),
        help="How freely the model chooses its words, where it lets itself be told.",
    ),
    Setting(
        name="llm_config.max_tokens",
        type=int,
        default=4000,
        minimum=1,
        maximum=128_000,
        help="The longest answer, in tokens; it is held on the budget before the call. No more is asked "
        "for than the model can write, or than half its window.",
    ),
    Setting(
        name="llm_config.timeout_seconds",
        type=int,
        default=60,
        minimum=1,
        maximum=600,
        levels=NOT_PER_REQUEST,
        help="The longest call.",
    ),
    Setting(
        name="llm_config.retry_attempts",
        type=int,
        default=3,
        minimum=0,
        maximum=10,
        levels=NOT_PER_REQUEST,
        help="How often a failed call is made again.",
    ),
    Setting(
        name="llm_config.on_interrupted_stream",
        type=str,
        default="retry",
        choices=("retry", "partial"),
        # Whether the payer pays for an answer twice or the reader gets half of one is no matter of a single question.
        levels=NOT_PER_REQUEST,
        help="What becomes of an answer that breaks off on its way, unless the provider still has it: it is asked for "
        "again (`retry`), or what had come is the answer (`partial`).",
    ),
    Setting(
        name="llm_config.extras",
        type=dict,
        default={},
        # How long a model thinks, say, changes what its answer costs: that is for who pays to decide, once.
        levels=NOT_PER_REQUEST,
        help="What only the provider that answers takes, by its own names "
        "([below](#what-only-one-provider-takes)); who does not take one of them is not sent it.",
    ),
    Setting(
        name="embedding_config.provider",
        type=str,
        deployment="DEFAULT_EMBEDDING_PROVIDER",
        levels=NOT_PER_AGENT,
        help="Who embeds.",
    ),
    Setting(
        name="embedding_config.model",
        type=str,
        deployment="DEFAULT_EMBEDDING_MODEL",
        levels=NOT_PER_AGENT,
        help="The model that embeds.",
    ),
    Setting(
        name="embedding_config.dimensions",
        type=int,
        deployment="DEFAULT_EMBEDDING_DIMENSIONS",
        minimum=8,
        maximum=4000,
        levels=NOT_PER_AGENT,
        help="The length of the vectors of a new collection.",
    ),
    Setting(
        name="rag_config.max_results",
        type=int,
        default=5,
        minimum=1,
        maximum=50,
        help="How many passages an answer may rest on.",
    ),
    Setting(
        name="rag_config.similarity_threshold",
        type=float,
        default=0.25,
        minimum=0,
        maximum=1,
        help="Passages whose cosine similarity to the question is below this are left out.",
    ),
    Setting(
        name="rag_config.query_expansion_enabled",
        type=bool,
        default=False,
        levels=NOT_PER_REQUEST,
        help="Whether a question is searched for in several wordings. The model is asked for them first, which is paid "
        "for.",
    ),
    Setting(
        name="processing_config.truncation_strategy",
        type=str,
        default="end",
        choices=("end", "start", "middle"),
        levels=NOT_PER_QUESTION,
        help="Which part of a question that is longer than the model that embeds it takes is left out of its vector.",
    ),
    Setting(
        name="processing_config.max_text_length",
        type=int,
        default=8192,
        minimum=64,
        maximum=100_000,
        levels=NOT_PER_QUESTION,
        help="The longest chunk of a new collection, in tokens; a larger `chunk_size` is brought down to it.",
    ),
    Setting(
        name="processing_config.batch_size",
        type=int,
        default=50,
        minimum=1,
        maximum=2048,
        levels=NOT_PER_QUESTION,
        help="How many chunks of a document are embedded in one call; no more, in number and in tokens, than the "
        "provider takes.",
    ),
    Setting(
        name="processing_config.timeout_seconds",
        type=int,
        default=60,
        minimum=1,
        maximum=600,
        levels=NOT_PER_QUESTION,
        help="The longest call that makes vectors.",
    ),
    Setting(
        name="processing_config.retry_attempts",
        type=int,
        default=3,
        minimum=0,
        maximum=10,
        levels=NOT_PER_QUESTION,
        help="How often one that failed is made again.",
    ),
    Setting(
        name="processing_config.concurrency",
        type=int,
        default=5,
        minimum=1,
        maximum=1000,
        levels=NOT_PER_QUESTION,
        help="How many of a tenant's questions, and of its documents and their batches, are with the workers or in a "
        "queue at once, each for itself. The rest waits, so that it is in nobody's way.",
    ),
    Setting(
        name="processing_config.chunk_size",
        type=int,
        default=512,
        minimum=64,
        maximum=4096,
        levels=NOT_PER_AGENT,
        help="Tokens in a chunk.",
    ),
    Setting(
        name="processing_config.chunk_overlap",
        type=int,
        default=64,
        minimum=0,
        maximum=2048,
        levels=NOT_PER_AGENT,
        help="Tokens that neighbouring chunks share.",
    ),
    Setting(
        name="fallback_models",
        type=list,
        default=[],
        levels=frozenset({Level.AGENT, Level.DEPLOYMENT}),
        help="Models that are asked in their order when the chosen one fails, each as `provider/model`; at most five.",
    ),
]
SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in _ALL}
#: ``llm_config.temperature.rag`` → the setting that it is a kind's value of.
_BY_KIND = {f"{setting.name}.{kind}": setting for setting in _ALL for kind in setting.kinds}


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """The value of every setting, and the level it came from."""

    values: Mapping[str, Any]
    sources: Mapping[str, str] = field(default_factory=dict)

    def section(self, name: str) -> dict[str, Any]:
        """The settings of one group, by their short names: ``llm_config`` → ``{"provider": …}``."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): value for key, value in self.values.items() if key.startswith(prefix)}


def check(values: Mapping[str, Any], *, level: Level) -> dict[str, Any]:
    """The values of one level, each accepted by its definition; raises InvalidSettingError for one that is not."""
    return {name: _known(name, level).accept(value) for name, value in values.items()}


def resolve(layers: Mapping[Level, Mapping[str, Any]], *, kinds: Collection[str] = ()) -> Resolved:
    """The cascade: for each setting the value of the strongest level that has one, for this kind of work or for all."""
    layers = {**layers, Level.DEPLOYMENT: _deployed()}
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, setting in SETTINGS.items():
        found = (
            (level, setting.accept(layers[level][each]))
            for level in Level
            for each in setting.names(kinds)
            if each in layers.get(level, {})
        )
        level, values[name] = next(found, (Level.DEPLOYMENT, setting.default))
        sources[name] = level.value
    return Resolved(values=values, sources=sources)


def _deployed() -> dict[str, Any]:
    """What the deployment sets: by its file, and by the variables that go before it."""
    by_variable = {name: getattr(settings, each.deployment) for name, each in SETTINGS.items() if each.deployment}
    return {**settings.WORK_SETTINGS, **by_variable}


def _known(name: str, level: Level) -> Setting:
    """The setting of that name, or of that name and a kind of work; raises InvalidSettingError."""
    setting = SETTINGS.get(name)
    if setting is None and level is not Level.REQUEST:
        setting = _BY_KIND.get(name)
    if setting is None or level not in setting.levels:
        raise InvalidSettingError(
            f"{name} cannot be set here.",
            errors=[FieldError(field=name, code="unknown_setting", detail=f"A {level} may not set it.")],
        )
    return setting
