"""Which queue a worker takes its next message from: the greater tiers more often, the smallest never last for good.

Kombu's Redis transport asks a *cycle* for the order in which to look into the queues, and tells it which one had a
message. This is smooth weighted round robin, as nginx shares requests among servers: each turn every queue earns its
weight, and the one that is taken from pays what all have earned. Of fifteen turns where all tiers have work, enterprise
has eight, spread evenly, and free one.
"""

from collections.abc import Iterable

WEIGHTS = {"enterprise": 8, "professional": 4, "advance": 2, "free": 1}
#: What is not a tier's: the sweeper's work is short, and everybody's.
OTHERS = 8


class ByTier:
    """The queues, those that are due first in front."""

    def __init__(self) -> None:
        self.queues: list[str] = []
        self._earned: dict[str, int] = {}

    def update(self, queues: Iterable[str]) -> None:
        """These are read from now on."""
        self.queues = list(queues)

    def consume(self, n: int) -> list[str]:
        """The next so many queues, in the order in which to look into them."""
        due = sorted(self.queues, key=lambda queue: self._earned.get(queue, 0) + _weight(queue), reverse=True)
        return due[:n]

    def rotate(self, last_used: str) -> None:
        """A message was taken from that queue: its turn is over."""
        all_weights = sum(map(_weight, self.queues))
        for queue in self.queues:
            earned = self._earned.get(queue, 0) + _weight(queue) - (all_weights if queue == last_used else 0)
            # Of the time when a queue was empty, or alone, no more is remembered than a round.
            self._earned[queue] = max(-all_weights, min(earned, all_weights))


def _weight(queue: str) -> int:
    return WEIGHTS.get(queue.rpartition(".")[2], OTHERS)
