"""The end of doubt: what became of calls whose outcome nobody saw.

While an operation is pending, whoever drives it asks (``purchase``), because an answer settles it. What is left unknown
when the operation has ended is asked about here, where the provider can be asked. The rest waits for a usage report or
the end of the grace period.
"""

import logging

from apps.core.persistence import written
from apps.gateway import sellers
from apps.ledger import sweeping, till
from apps.ledger.sweeping import UnknownAttempt
from apps.ledger.types import TokenCounts
from apps.providers import registry
from apps.providers.base import ChatResult, EmbeddingResult, Fate, Usage
from apps.providers.errors import ProviderError
from apps.tenants.errors import CredentialUnreadableError

logger = logging.getLogger(__name__)


def resolve_unknown() -> int:
    """Ask the providers that can be asked about unknown attempts of ended operations; returns how many were resolved.

    Each attempt is asked about by one sweeper at a time and once a minute; the call is outside any transaction. A late
    answer that settles the attempt meanwhile wins: reporting it again changes nothing. It is asked with the payer's own
    key where there is one, as it was called: a provider tells nobody of another account's requests.
    """
    providers = [name for name in sweeping.unknown_providers() if registry.is_askable(name)]
    return sum(_resolved(attempt) for attempt in sweeping.take_unknown(providers))


def _resolved(attempt: UnknownAttempt) -> bool:
    try:
        adapter = sellers.askable(attempt, attempt.provider)
        return adapter is not None and _closed_by(attempt, adapter.lookup(str(attempt.id)))
    except (ProviderError, CredentialUnreadableError):
        logger.warning("provider could not be asked", extra={"attempt": str(attempt.id)}, exc_info=True)
        return False


def _closed_by(attempt: UnknownAttempt, told: ChatResult | EmbeddingResult | Fate) -> bool:
    """Close the attempt by the provider's word; False when that word says nothing yet."""
    if told is Fate.NOT_SEEN:
        return written(till.void)(attempt, attempt.id, code="not_seen", detail="The provider never saw the request.")
    if isinstance(told, Fate) or told.usage is None:
        return False
    written(till.report)(
        attempt,
        attempt.id,
        counts_of(told.usage),
        provider_request_id=told.provider_request_id,
        raw_usage=told.raw_usage,
    )
    return True


def counts_of(usage: Usage) -> TokenCounts:
    """A provider's usage as the ledger counts it."""
    return TokenCounts(
        fresh_input_tokens=usage.fresh_input_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        plain_output_tokens=usage.plain_output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        source=usage.source,
    )
