"""Which providers and models there are, as data. Nothing is called from here: see :mod:`apps.providers.registry`.

A provider that nooble does not know is added by the deployment, with a dotted path to its adapter:
``NOOBLE_PROVIDERS = {"acme": {"adapter": "acme.nooble.AcmeProvider", "api_key": "…", "base_url": "…"}}``.
"""

import functools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from django.conf import settings

from apps.providers.errors import UnknownProviderError

Work = Literal["chat", "embed"]

_MODELS = Path(__file__).with_name("models.toml")
#: ``gpt-4o-2024-08-06`` is a dated ``gpt-4o``, as ``claude-haiku-4-5-20251001``; ``ft:gpt-4o:acme::x1`` was tuned.
_VARIANT = re.compile(r"^(?:ft:)?(?P<model>[^:]+?)(?:-\d{4}-\d{2}-\d{2}|-\d{8})?(?::.*)?$")


@dataclass(frozen=True, kw_only=True)
class Framing:
    """The tokens that a provider adds around messages: what is expected, and a bound that they never exceed."""

    per_message: int
    per_request: int
    bound_per_message: int
    bound_per_request: int


#: 3 tokens a message, one for its role, 3 that open the answer: OpenAI's cookbook, "How to count tokens with tiktoken".
OPENAI_FRAMING = Framing(per_message=4, per_request=3, bound_per_message=8, bound_per_request=32)
#: Other chat templates add headers to each message and some a preamble of their own (gpt-oss: about 70 tokens). Of
#: Anthropic's a published example shows 7 around two texts; it bills none of what it adds besides ("Token counting").
TEMPLATE_FRAMING = Framing(per_message=4, per_request=3, bound_per_message=16, bound_per_request=256)
#: Cohere adds headers and a preamble too, but bills for nothing that it adds: "How Does Cohere's Pricing Work?". The
#: bounds are no smaller for it.
COHERE_FRAMING = Framing(per_message=0, per_request=0, bound_per_message=16, bound_per_request=256)
NO_FRAMING = Framing(per_message=0, per_request=0, bound_per_message=0, bound_per_request=0)

#: Under which name ``models.toml`` has the models that a provider of the deployment's own may serve.
ANYBODYS = "*"

#: OpenAI's reference, "Create embeddings". Azure's quotas name the same number of texts.
OPENAI_MAX_TEXTS = 2048
OPENAI_MAX_BATCH_TOKENS = 300_000


@dataclass(frozen=True, kw_only=True)
class ProviderSpec:
    name: str
    #: Dotted path of a class that is built with a :class:`apps.providers.base.ProviderConfig`.
    adapter: str
    does: frozenset[Work] = frozenset({"chat", "embed"})
    #: The environment variable that the deployment's key is read from; empty when none is needed.
    key_variable: str = ""
    #: The one that its address is read from, when every customer's is another and none can be assumed.
    url_variable: str = ""
    #: Whether each of its customers has an address of its own, so that no tenant's key is good at the deployment's.
    per_customer: bool = False
    framing: Framing = TEMPLATE_FRAMING
    #: Whose models it serves, under names of the deployment's; empty when they are its own.
    models_of: str = ""
    #: Whether it may have models that nooble has not heard of.
    takes_any_model: bool = True
    #: The most texts that it embeds in one call, and the most tokens of all of them together, by its own count (see
    #: :func:`apps.providers.tokens.largest_batch`); None where no limit is known.
    max_texts: int | None = None
    max_batch_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What is known of a model; None is "not known", as for a model that only the deployment knows."""

    provider: str
    model: str
    family: str | None = None
    context_window: int | None = None
    max_output_tokens: int | None = None
    #: The length of its vectors; the greatest where ``matryoshka`` says that shorter ones can be had.
    dimensions: int | None = None
    matryoshka: bool | None = None
    #: The lengths that a Matryoshka model was trained for, where no others can be had.
    lengths: Sequence[int] = ()
    tokenizer: str | None = None
    reasoning: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_known(self) -> bool:
        """Whether anything is known of it: every model of ``models.toml`` has a family."""
        return self.family is not None

    @property
    def longest_answer(self) -> int | None:
        """The most that can be asked for: what the model can write, and leaves half of its window to the question."""
        limits = (self.max_output_tokens, self.context_window and self.context_window // 2)
        return min((limit for limit in limits if limit), default=None)

    @property
    def does(self) -> Work:
        """What a known model does: those that embed have a length of vectors."""
        return "chat" if self.dimensions is None else "embed"

    def makes(self, dimensions: int) -> bool:
        """Whether vectors of that length can be had; of a model that nobody knows, nothing is known to be wrong."""
        if self.dimensions is None or dimensions == self.dimensions:
            return True
        if self.lengths:
            return dimensions in self.lengths
        return bool(self.matryoshka) and dimensions < self.dimensions

    @property
    def lengths_made(self) -> str:
        """The lengths of vectors that can be had, in words."""
        if self.lengths:
            return ", ".join(map(str, self.lengths))
        return f"up to {self.dimensions}" if self.matryoshka else str(self.dimensions)


PROVIDERS = {
    spec.name: spec
    for spec in (
        ProviderSpec(
            name="openai",
            adapter="apps.providers.adapters.openai.OpenAIProvider",
            key_variable="OPENAI_API_KEY",
            framing=OPENAI_FRAMING,
            max_texts=OPENAI_MAX_TEXTS,
            max_batch_tokens=OPENAI_MAX_BATCH_TOKENS,
        ),
        ProviderSpec(
            name="groq",
            adapter="apps.providers.adapters.groq.GroqProvider",
            does=frozenset({"chat"}),
            key_variable="GROQ_API_KEY",
        ),
        ProviderSpec(
            name="anthropic",
            adapter="apps.providers.adapters.anthropic.AnthropicProvider",
            does=frozenset({"chat"}),
            key_variable="ANTHROPIC_API_KEY",
        ),
        ProviderSpec(
            name="cohere",
            adapter="apps.providers.adapters.cohere.CohereProvider",
            key_variable="COHERE_API_KEY",
            framing=COHERE_FRAMING,
            max_texts=96,
        ),
        ProviderSpec(
            name="mistral",
            adapter="apps.providers.adapters.mistral.MistralProvider",
            key_variable="MISTRAL_API_KEY",
            # Not in its reference: the smallest for which its users report "Too many inputs in request" and "Too many
            # tokens in batch. Max is 16384".
            max_texts=256,
            max_batch_tokens=16_384,
        ),
        ProviderSpec(name="ollama", adapter="apps.providers.adapters.ollama.OllamaProvider", per_customer=True),
        ProviderSpec(
            name="azure_openai",
            adapter="apps.providers.adapters.azure_openai.AzureOpenAIProvider",
            key_variable="AZURE_OPENAI_API_KEY",
            url_variable="AZURE_OPENAI_ENDPOINT",
            per_customer=True,
            framing=OPENAI_FRAMING,
            models_of="openai",
            max_texts=OPENAI_MAX_TEXTS,
            max_batch_tokens=OPENAI_MAX_BATCH_TOKENS,
        ),
        ProviderSpec(
            name="local",
            adapter="apps.providers.adapters.local.LocalProvider",
            framing=NO_FRAMING,
            takes_any_model=False,
        ),
    )
}


def provider(name: str) -> ProviderSpec:
    """The provider of that name, the deployment's own included.

    Raises :class:`UnknownProviderError`.
    """
    known = PROVIDERS.get(name)
    adapter = settings.NOOBLE_PROVIDERS.get(name, {}).get("adapter")
    if adapter:
        return replace(known or ProviderSpec(name=name, adapter=adapter, models_of=ANYBODYS), adapter=adapter)
    if known is None:
        raise UnknownProviderError(f"There is no provider {name!r}. Choose one of: {', '.join(provider_names())}.")
    return known


def provider_names() -> list[str]:
    """The names of all providers of this deployment, configured or not."""
    added = {name for name, entry in settings.NOOBLE_PROVIDERS.items() if entry.get("adapter")}
    return sorted(PROVIDERS.keys() | added)


def model(provider_name: str, model_name: str) -> ModelSpec:
    """What is known of a model: of a dated or tuned one, what is known of the model that it comes from.

    Where the deployment says which model a name stands for, or how long a request its server takes, that counts, too.
    Raises :class:`UnknownProviderError`; an unknown model of a known provider is allowed.
    """
    known = _models_of(provider(provider_name))
    meant = deployments(provider_name).get(model_name, model_name)
    facts = known.get(meant)
    if facts is None and (variant := _VARIANT.match(meant)):
        facts = known.get(variant["model"])
    return _served(facts or ModelSpec(provider=provider_name, model=model_name), provider_name, model_name)


def models(provider_name: str, work: Work | None = None) -> tuple[ModelSpec, ...]:
    """The provider's models that nooble knows the facts of; those for one kind of work, if it is named.

    Those that the deployment has given names come first, by these.
    """
    names = dict.fromkeys([*deployments(provider_name), *_models_of(provider(provider_name))])
    known = (model(provider_name, name) for name in names)
    return tuple(spec for spec in known if spec.is_known and work in (None, spec.does))


def deployments(provider_name: str) -> Mapping[str, str]:
    """The names that the deployment has given to models of this provider, each with the model that it stands for."""
    named: Mapping[str, str] = settings.NOOBLE_PROVIDERS.get(provider_name, {}).get("models", {})
    return named


def is_known_not_to(work: Work, provider_name: str, model_name: str) -> bool:
    """Whether it is certain, without asking, that the provider does not do that work with a model of that name.

    Of a name that nobody knows nothing is certain, where a provider may have models that are not in the catalogue; no
    model is without a name. One that is known as another provider's is not this one's, unless the deployment has put
    something else in its place. Raises :class:`UnknownProviderError`.
    """
    spec, facts = provider(provider_name), model(provider_name, model_name)
    if work not in spec.does or not model_name.strip():
        return True
    if facts.is_known:
        return facts.does != work
    entry = settings.NOOBLE_PROVIDERS.get(provider_name, {})
    is_replaced = bool(entry.get("adapter") or entry.get("base_url"))
    is_anothers = any(model_name in models for models in _table().values())
    return not is_replaced and (is_anothers or not spec.takes_any_model)


def _models_of(spec: ProviderSpec) -> Mapping[str, ModelSpec]:
    return _table().get(spec.models_of or spec.name, {})


def _served(facts: ModelSpec, provider_name: str, model_name: str) -> ModelSpec:
    """The same model under the name that it is called by here; no server reads more than its ``context_window``."""
    windows = (facts.context_window, settings.NOOBLE_PROVIDERS.get(provider_name, {}).get("context_window"))
    window = min((window for window in windows if window), default=None)
    return replace(facts, provider=provider_name, model=model_name, context_window=window)


@functools.cache
def _table() -> dict[str, dict[str, ModelSpec]]:
    table: dict[str, dict[str, dict[str, Any]]] = tomllib.loads(_MODELS.read_text(encoding="utf-8"))
    return {
        name: {model: ModelSpec(provider=name, model=model, **facts) for model, facts in rows.items()}
        for name, rows in table.items()
    }
