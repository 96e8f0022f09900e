"""How often things happened that no row tells of, counted over all processes: a hash in Redis for each counter.

They are lost with Redis, as counters of a process are with it, and begin anew after :data:`KEPT_SECONDS`, so that what
is out of use makes room; a monitor knows a counter that begins anew. Counting never fails and never waits for long:
where Redis does not answer, nothing is counted for a while.
"""

import json
from collections.abc import Sequence

from apps.core import breaker

#: Labels can be a client's words: of a counter so many are told apart, and the rest are counted together.
MAX_LABELS = 500
OTHER = "other"
#: A week, from the first count on.
KEPT_SECONDS = 7 * 24 * 3600

#: KEYS: the hash. ARGV: how many fields it may have and how long it lives, then field, field for the rest, number, for
#: each thing counted. ``EXPIRE … NX`` would need Redis 7.
_SCRIPT = """
for i = 3, #ARGV, 3 do
    local field = ARGV[i]
    if redis.call('HEXISTS', KEYS[1], field) == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[1]) then
        field = ARGV[i + 1]
    end
    redis.call('HINCRBY', KEYS[1], field, ARGV[i + 2])
end
if redis.call('TTL', KEYS[1]) == -1 then
    redis.call('EXPIRE', KEYS[1], ARGV[2])
end
"""

Labels = tuple[str, ...]


def count(counter: str, *occurrences: Labels) -> None:
    """Count one more of each; the last label of what is one too many becomes ``other``."""
    increase(counter, [(labels, 1) for labels in occurrences])


def increase(counter: str, amounts: Sequence[tuple[Labels, int]]) -> None:
    """Count several, each by its number, in one call of Redis."""
    if not amounts:
        return
    arguments = [part for labels, number in amounts for part in (_field(labels), _field(_rest(labels)), number)]
    breaker.ask(lambda redis: redis.eval(_SCRIPT, 1, _key(counter), MAX_LABELS, KEPT_SECONDS, *arguments))


def observe(counter: str, value: int, *, buckets: Sequence[int]) -> None:
    """Count a value in a histogram: in the first bucket that it fits into, and in their sum."""
    bucket = next((str(most) for most in buckets if value <= most), "+Inf")
    increase(counter, [((bucket,), 1), (("sum",), value)])


def read(counter: str) -> dict[Labels, int]:
    """What was counted, by labels; raises RedisError."""
    return {tuple(json.loads(field)): int(number) for field, number in breaker.client().hgetall(_key(counter)).items()}


def _rest(labels: Labels) -> Labels:
    return (*labels[:-1], OTHER)


def _field(labels: Labels) -> str:
    return json.dumps(labels)


def _key(counter: str) -> str:
    return f"nooble:counters:{counter}"
