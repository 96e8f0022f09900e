"""Corrections of entries: signed entries that name the one they correct, in the books of the present day.

Statistics and budget move with them, in the same transaction; the entry itself stays as it is. See ``ledger_adjust``.
"""

from decimal import Decimal
from uuid import UUID

from django.db.models import Q, Sum

from apps.core import db
from apps.core.db import operator_scope
from apps.core.ids import new_id
from apps.ledger import functions
from apps.ledger.errors import AdjustmentRefusedError, LedgerRowNotFoundError
from apps.ledger.models import Entry
from apps.ledger.types import BUCKETS, EntryKind, TokenCounts, counts_of

MAX_REASON_CHARACTERS = 500
MAX_ACTOR_CHARACTERS = 150
MAX_KEY_CHARACTERS = 255


def adjust(
    entry_id: UUID,
    counts: TokenCounts,
    *,
    reason: str,
    actor: str,
    key: str | None = None,
    cost_usd: Decimal | None = None,
) -> Entry:
    """Correct an entry, as an operator, by the difference in ``counts``, negative to take back; returns the adjustment.

    ``reason`` and ``actor`` say why and who. With a ``key`` it is made once however often it is asked for. The cost
    moves by what the tokens cost at the entry's price, or by ``cost_usd``, which no later re-pricing touches.

    Raises LedgerRowNotFoundError; AdjustmentRefusedError when nothing would change, the entry is an adjustment itself,
    or more would be taken back from a bucket than the entry and its adjustments have in it; IdempotencyConflictError.
    """
    _check(counts, reason, actor, key, cost_usd)
    with operator_scope(f"adjustment by {actor}"):
        lock(entry_id)
        entry = _entry(entry_id)
        key = key or f"adjust:{new_id()}"
        # What was made already is returned as it is: it must not be refused for having taken its tokens back.
        if not Entry.objects.filter(tenant_id=entry.tenant_id, idempotency_key=key).exists():
            _check_remainder(entry, counts)
        row = functions.call(
            "ledger_adjust", new_id(), entry.pk, key, counts, cost_usd, None, reason.strip(), actor, "{}"
        )
        return Entry.objects.get(pk=row["id"])


def remainder(entry: Entry) -> TokenCounts:
    """What an entry and its adjustments have in each bucket. The caller is in a scope that may see them."""
    rows = Entry.objects.filter(Q(pk=entry.pk) | Q(corrects_id=entry.pk))
    sums = rows.aggregate(**{bucket: Sum(bucket) for bucket in BUCKETS})
    return counts_of({**sums, "token_source": entry.token_source})


def lock(entry_id: UUID) -> None:
    """Wait until nobody else corrects the entry; the lock lives as long as the transaction."""
    db.execute("SELECT ledger_lock_entry(%s)", [entry_id])


def _check(counts: TokenCounts, reason: str, actor: str, key: str | None, cost_usd: Decimal | None) -> None:
    if not reason.strip() or len(reason) > MAX_REASON_CHARACTERS:
        raise AdjustmentRefusedError(f"Say why, in at most {MAX_REASON_CHARACTERS} characters.")
    if not actor or len(actor) > MAX_ACTOR_CHARACTERS:
        raise AdjustmentRefusedError(f"Say who makes it, in at most {MAX_ACTOR_CHARACTERS} characters.")
    if key is not None and not 1 <= len(key) <= MAX_KEY_CHARACTERS:
        raise AdjustmentRefusedError(f"The key must have 1 to {MAX_KEY_CHARACTERS} characters.")
    if any(type(tokens) is not int for tokens in counts.buckets):
        raise AdjustmentRefusedError("Tokens must be whole numbers.")
    if cost_usd is not None and not (isinstance(cost_usd, Decimal) and cost_usd.is_finite()):
        raise AdjustmentRefusedError("The cost must be a decimal number.")
    if not any(counts.buckets) and not cost_usd:
        raise AdjustmentRefusedError("Nothing would change: name tokens or a cost.")


def _entry(entry_id: UUID) -> Entry:
    entry = Entry.objects.filter(pk=entry_id).first()
    if entry is None:
        raise LedgerRowNotFoundError("There is no such entry.")
    if entry.kind == EntryKind.ADJUSTMENT:
        raise AdjustmentRefusedError("It is an adjustment: adjust the entry that it corrects.")
    return entry


def _check_remainder(entry: Entry, counts: TokenCounts) -> None:
    left = remainder(entry)
    for bucket, has, change in zip(BUCKETS, left.buckets, counts.buckets, strict=True):
        if has + change < 0:
            title = bucket.removesuffix("_tokens").replace("_", " ")
            raise AdjustmentRefusedError(
                f"It would take back {-change} tokens of {title}; the entry and its adjustments have {has}."
            )
