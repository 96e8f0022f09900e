"""How many requests a tenant may make in a minute: as many as its plan says, with all its keys, at all web processes.

A sliding window is counted in Redis as two numbers: the requests of this minute, and those of the one before, of which
that part counts which the last sixty seconds still reach into. They take the same room whatever the limit is, and go by
Redis' clock alone. After a burst at the end of a minute up to twice the limit can pass in sixty seconds, never in the
long run. Every request counts alike: what some of them start is bounded by budget and share of the queues.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis import Redis
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from apps.core import breaker, counters
from apps.core.errors import RateLimitedError
from apps.tenants.types import Principal

if TYPE_CHECKING:
    # DRF imports the default throttles while it imports its views.
    from rest_framework.views import APIView

WINDOW_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a tenant stands after a request that counted, or was one too many."""

    limit: int
    allowed: bool
    remaining: int
    #: Until there is room for one more than that: whole seconds, at least one.
    seconds: int

    def headers(self) -> dict[str, str]:
        """As draft-ietf-httpapi-ratelimit-headers-11 has them."""
        return {
            "RateLimit-Policy": f'"default";q={self.limit};w={WINDOW_SECONDS}',
            "RateLimit": f'"default";r={self.remaining};t={self.seconds}',
        }


class TenantThrottle(BaseThrottle):
    """Refuses what a tenant's plan does not allow in this minute. Who is not authenticated has no plan."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        who = request.auth
        if not isinstance(who, Principal) or who.limits.requests_per_minute is None:
            return True
        standing = _count(who.tenant_id, who.limits.requests_per_minute)
        if standing is not None:
            # DRF gives every answer of this request the view's headers, errors too.
            view.headers |= standing.headers()
            if not standing.allowed:
                raise _refusal(who, standing)
        return True


def _refusal(who: Principal, standing: Standing) -> RateLimitedError:
    counters.count("requests_refused", (who.tier,))
    problem = RateLimitedError(
        f"The tier “{who.tier}” allows {standing.limit} requests in {WINDOW_SECONDS} s, with all keys of the tenant "
        f"together. Send this one again in {standing.seconds} s, with the same Idempotency-Key if it has one."
    )
    problem.retry_after = standing.seconds
    return problem


class _Tally:
    """A number of this process, until Redis is there to add it to those of the others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0

    def add(self) -> None:
        with self._lock:
            self._number += 1

    def take(self) -> int:
        with self._lock:
            taken, self._number = self._number, 0
        return taken


_unlimited = _Tally()


def _count(tenant_id: UUID, limit: int) -> Standing | None:
    """Count a request; None where Redis does not answer: then it passes, since the budget binds all the same."""
    standing = breaker.ask(lambda redis: _hit(_limiter(redis), tenant_id, limit))
    if standing is None:
        _unlimited.add()
    elif passed := _unlimited.take():
        counters.increase("requests_unlimited", [((), passed)])
    return standing


def _hit(limiter: SlidingWindowCounterRateLimiter, tenant_id: UUID, limit: int) -> Standing:
    # The limit is part of the key, so another one begins with an empty window.
    window = RateLimitItemPerMinute(limit, namespace="tenant")
    allowed = limiter.hit(window, str(tenant_id))
    stands = limiter.get_window_stats(window, str(tenant_id))
    return Standing(
        limit=limit,
        allowed=allowed,
        remaining=stands.remaining,
        seconds=max(1, math.ceil(stands.reset_time - time.time())),
    )


@functools.cache
def _limiter(redis: Redis) -> SlidingWindowCounterRateLimiter:
    pool = redis.connection_pool
    return SlidingWindowCounterRateLimiter(RedisStorage("redis://", connection_pool=pool, key_prefix="nooble:limits"))
