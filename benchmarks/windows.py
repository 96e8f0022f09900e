"""Windows of time in which threads repeat one step: how often they manage, and how long one takes."""

import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

#: One piece of work: does it, and says how many rows or operations it was.
Step = Callable[[], int]
#: Makes a thread's step; it is given the thread's number.
Start = Callable[[int], Step]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is done for a figure: the less, the less it says."""

    #: How long one window is.
    seconds: float = 2.0
    #: How often each window comes.
    rounds: int = 5
    #: Steps that a thread makes before its window, so that its connection has planned what it will run.
    warm_up: int = 8
    #: How often a page is asked for.
    requests: int = 400


@dataclass(frozen=True, kw_only=True)
class Window:
    """What one window showed. ``p50_ms``: the median time of a step."""

    rate: float
    p50_ms: float


def run(threads: int, effort: Effort, start: Start) -> Window:
    """Steps per second of so many threads in one window. ``start`` makes a thread's step, with a number of its own."""
    window = _Window(threads, effort, start)
    workers = [threading.Thread(target=window.work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if window.errors:
        raise window.errors[0]
    return Window(rate=window.done / window.elapsed, p50_ms=statistics.median(window.times) * 1000)


class _Window:
    """The threads of one window: they warm up, start together, and stop when the time is over."""

    def __init__(self, threads: int, effort: Effort, start: Start) -> None:
        self._effort, self._start = effort, start
        self._ready = threading.Barrier(threads, action=self._begin)
        self._lock = threading.Lock()
        self.times: list[float] = []
        self.done = 0
        self.elapsed = 0.0
        self.errors: list[BaseException] = []

    def work(self, number: int) -> None:
        try:
            self._work(self._start(number))
        except threading.BrokenBarrierError:
            pass  # another thread's error is the one to report
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits for this one
            self.errors.append(error)
            self._ready.abort()
        finally:
            _close_connections()

    def _begin(self) -> None:
        self._began = time.perf_counter()

    def _work(self, step: Step) -> None:
        for _ in range(self._effort.warm_up):
            step()
        self._ready.wait()
        times, done, now = [], 0, self._began
        while now < self._began + self._effort.seconds:
            done += step()
            times.append(-now + (now := time.perf_counter()))
        with self._lock:
            self.times += times
            self.done += done
            self.elapsed = max(self.elapsed, now - self._began)


def note(text: str) -> None:
    """Progress, which is no part of the result."""
    print(text, file=sys.stderr, flush=True)


def _close_connections() -> None:
    from django.db import connections  # noqa: PLC0415 - settings first

    connections.close_all()
