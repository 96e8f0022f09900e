"""Whose turn it is at a worker that reads several queues."""

from collections import Counter
from typing import Any

from django.conf import settings
from kombu.utils.scheduling import cycle_by_name

from nooble import queues
from nooble.turns import WEIGHTS, ByTier

TIERS = {"query.enterprise", "query.professional", "query.advance", "query.free"}


def turns(cycle: ByTier, number: int, having_work: set[str]) -> list[str]:
    """The queues that so many messages are taken from, one after the other."""
    taken = []
    for _ in range(number):
        order = cycle.consume(len(cycle.queues))
        taken.append(next(queue for queue in order if queue in having_work))
        cycle.rotate(taken[-1])
    return taken


def cycle() -> ByTier:
    made: Any = cycle_by_name(str(settings.CELERY_BROKER_TRANSPORT_OPTIONS["queue_order_strategy"]))()
    assert isinstance(made, ByTier)
    made.update(queues.of("query"))
    return made


def test_where_all_have_work_the_greater_tiers_have_more_turns_and_none_has_none() -> None:
    taken = turns(cycle(), 150, TIERS)
    assert Counter(taken) == {
        "query.enterprise": 80,
        "query.professional": 40,
        "query.advance": 20,
        "query.free": 10,
    }
    # Evenly: the lowest tier waits for one round at most.
    assert all("query.free" in taken[start : start + 15] for start in range(0, 150, 15))


def test_every_tier_that_has_queues_has_a_weight() -> None:
    assert set(WEIGHTS) == set(queues.TIERS)


def test_the_sweepers_work_has_as_many_turns_as_the_greatest_tiers() -> None:
    used = cycle()
    used.update([*queues.of("query"), *queues.of(queues.MAINTENANCE)])
    taken = Counter(turns(used, 230, {*TIERS, queues.MAINTENANCE}))
    assert taken[queues.MAINTENANCE] == taken["query.enterprise"] == 80


def test_a_tier_that_is_alone_has_all_turns() -> None:
    assert turns(cycle(), 20, {"query.free"}) == ["query.free"] * 20


def test_a_tier_that_had_nothing_to_do_does_not_shut_out_the_others_afterwards() -> None:
    used = cycle()
    turns(used, 1000, {"query.free"})
    taken = turns(used, 30, {"query.enterprise", "query.free"})
    assert taken[0] == "query.enterprise"
    assert "query.free" in taken


def test_each_queue_is_looked_into() -> None:
    used = cycle()
    turns(used, 7, TIERS)
    assert set(used.consume(4)) == TIERS
