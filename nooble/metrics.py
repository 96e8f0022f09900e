"""What a monitor asks for, in Prometheus' format: how work, doubt and differences stand, and since when.

Every number is read when it is asked for, from rows that an index finds, or where all processes count together; none
counts for itself, so it does not matter which one is asked. Only ``nooble_spool_events`` is of the host that answers:
its spool is a file.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import accumulate

from django.conf import settings
from django.db.models import Max
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.http import require_safe
from django_celery_beat.models import PeriodicTask
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from redis import RedisError

from apps.agents.models import Run
from apps.collections.models import Document, EmbeddingBatch
from apps.core import counters, dispatch, maintenance
from apps.core.api import exceptions
from apps.core.errors import NotAuthenticatedError, NotFoundError
from apps.ledger import reconciliation, spool, sweeping
from apps.ledger.errors import SpoolUnavailableError

#: Name → what it says, and by what it is divided. ``docs/operations.md`` has the same, which a test compares.
METRICS = {
    "nooble_work_unfinished": ("Rows of the work list that are not finished.", ["kind"]),
    "nooble_work_waiting_seconds": ("How long the oldest of them that is due has waited for a worker.", ["kind"]),
    "nooble_attempts": ("Calls to providers whose outcome is not known, or not yet.", ["state"]),
    "nooble_attempt_held_tokens": ("What budgets have set aside for them.", ["state"]),
    "nooble_discrepancies": ("Differences in the books that nobody has looked into.", ["kind"]),
    "nooble_reconciled_timestamp_seconds": ("When books were last compared to the end.", ["scope"]),
    "nooble_beat_timestamp_seconds": ("When beat last published each periodic task.", ["task"]),
    "nooble_request_headers": ("Requests of the API that were sent with a header.", ["header", "client_version"]),
    "nooble_requests_refused": ("Requests of the API that their tenant's plan did not allow in that minute.", ["tier"]),
    "nooble_requests_unlimited": ("Requests of the API that nobody limited, as Redis did not answer.", []),
    "nooble_circuits_opened": ("Models that a process has left alone for a while, for failing.", ["provider", "model"]),
    "nooble_messages_refused": ("Messages that were not worked on: no context, or no payload.", ["task", "fault"]),
    "nooble_context_bytes": ("The sizes of contexts as they travel, signed.", []),
    "nooble_spool_events": ("Reported usage that waits on this host, or that the database has refused.", ["state"]),
}
#: What processes count together in Redis: a counter, and a metric with ``nooble_`` before its name.
_COUNTED = ("request_headers", "requests_refused", "requests_unlimited", "circuits_opened", "messages_refused")


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """``GET /metrics``, for who brings ``METRICS_TOKEN``; without one in the settings there is no such page."""
    if not settings.METRICS_TOKEN:
        return exceptions.answer(NotFoundError("Set METRICS_TOKEN to have metrics."), request)
    given = request.headers.get("Authorization", "")
    if not constant_time_compare(given, f"Bearer {settings.METRICS_TOKEN}"):
        problem = NotAuthenticatedError("Send METRICS_TOKEN as a bearer token.")
        return exceptions.answer(problem, request, {"WWW-Authenticate": "Bearer"})
    registry = CollectorRegistry()
    registry.register(_Books())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class _Books(Collector):
    """Reads each metric anew."""

    def describe(self) -> Iterator[Metric]:
        """Nothing: the registry is of one request, and names that clash are a defect that a test sees."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        yield from _work()
        yield from _doubt()
        yield _gauge("nooble_discrepancies", {(kind,): count for kind, count in reconciliation.outstanding().items()})
        compared = reconciliation.last_finished()
        yield _gauge(
            "nooble_reconciled_timestamp_seconds", {(scope,): _seconds(moment) for scope, moment in compared.items()}
        )
        yield _gauge(
            "nooble_beat_timestamp_seconds", {(task,): _seconds(moment) for task, moment in _published().items()}
        )
        yield from _counted()
        yield _gauge("nooble_spool_events", _spool())


def _published() -> dict[str, datetime]:
    enabled = PeriodicTask.objects.filter(enabled=True, last_run_at__isnull=False)
    return dict(enabled.order_by().values_list("task").annotate(last=Max("last_run_at")))


def _work() -> Iterator[Metric]:
    found = {
        (model._meta.model_name or "",): maintenance.unfinished(model) for model in (Run, Document, EmbeddingBatch)
    }
    yield _gauge("nooble_work_unfinished", {kind: count for kind, (count, _) in found.items()})
    yield _gauge("nooble_work_waiting_seconds", {kind: waited for kind, (_, waited) in found.items()})


def _doubt() -> Iterator[Metric]:
    found = sweeping.unresolved()
    yield _gauge("nooble_attempts", {(state,): count for state, (count, _) in found.items()})
    yield _gauge("nooble_attempt_held_tokens", {(state,): held for state, (_, held) in found.items()})


def _counted() -> Iterator[Metric]:
    """What processes count together in Redis; nothing where that is away."""
    try:
        for name in _COUNTED:
            yield _counter(f"nooble_{name}", counters.read(name))
        yield _histogram("nooble_context_bytes", counters.read("context_bytes"), dispatch.CONTEXT_BYTES)
    except RedisError:
        return


def _counter(name: str, values: dict[tuple[str, ...], int]) -> Metric:
    text, labels = METRICS[name]
    counter = CounterMetricFamily(name, text, labels=labels)
    for divided_by, value in values.items():
        counter.add_metric(divided_by, value)
    return counter


def _histogram(name: str, values: dict[tuple[str, ...], int], buckets: Iterable[int]) -> Metric:
    """Prometheus' buckets hold what is below them, too."""
    bounds = [*map(str, buckets), "+Inf"]
    cumulative = accumulate(values.get((bound,), 0) for bound in bounds)
    histogram = HistogramMetricFamily(name, METRICS[name][0])
    histogram.add_metric([], list(zip(bounds, cumulative, strict=True)), values.get(("sum",), 0))
    return histogram


def _spool() -> dict[tuple[str, ...], float]:
    try:
        return {("waiting",): spool.waiting(), ("refused",): spool.refused()}
    except SpoolUnavailableError:
        # A metric that is not there is what monitors have alarms for.
        return {}


def _gauge(name: str, values: dict[tuple[str, ...], float]) -> Metric:
    text, labels = METRICS[name]
    gauge = GaugeMetricFamily(name, text, labels=labels)
    for divided_by, value in values.items():
        gauge.add_metric(divided_by, value)
    return gauge


def _seconds(moment: datetime | None) -> float:
    return moment.timestamp() if moment else 0.0
