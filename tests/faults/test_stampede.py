"""More requests at once than the budget covers: through the API, a web process and a worker of their own."""

import json
import socket
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.conf import settings

from apps.agents.models import Run
from apps.core.db import operator_scope, unit_of_work
from apps.ledger.models import Attempt, Budget
from apps.tenants.models import Tenant, Tier
from nooble import programs, queues
from nooble.outputs import FileOutput
from nooble.processes import Supervisor
from tests.conftest import worker_environment
from tests.fakes.process import FakeProvider
from tests.faults.scene import Scene, wait_until
from tests.personas import MakeTenant

REQUESTS, COVERED = 200, 50
CLIENTS = 32
#: More than are covered: none of them waits for another's answer.
THREADS = COVERED + 14
MESSAGE = "What does the pump weigh?"


@pytest.fixture
def address(database: None, fake_provider_process: FakeProvider) -> Iterator[str]:
    """A web process, and a worker that can have all calls that are covered on their way at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    worker = programs.worker("stampede", pool="threads", concurrency=THREADS, consumes=queues.of("query"))
    # Nobody waits for it: what is published before it is there waits for it.
    worker = replace(worker, ready=lambda: True)
    stages = [
        [replace(program, environment={**program.environment, **worker_environment()})]
        for program in (programs.web("127.0.0.1", port), worker)
    ]
    output = FileOutput(settings.NOOBLE_DATA_DIR / "log")
    with Supervisor(stages, output=output) as supervisor:
        supervisor.wait_until_ready()
        yield f"http://127.0.0.1:{port}/api/v1"
    output.close()


@pytest.fixture
def wide_tier(database: None) -> Iterator[str]:
    """A tier whose tenants may have all their requests at work at once."""
    with operator_scope("test"):
        tier = Tier.objects.get(name="enterprise")
        Tier.objects.filter(pk=tier.pk).update(defaults={**tier.defaults, "processing_config.concurrency": REQUESTS})
    yield tier.name
    with operator_scope("test"):
        Tier.objects.filter(pk=tier.pk).update(defaults=tier.defaults)


def post(url: str, key: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


@pytest.mark.timeout(0)
def test_of_200_equal_requests_at_once_the_50_that_the_budget_covers_are_made(
    address: str, wide_tier: str, make_tenant: MakeTenant, fake_provider: FakeProvider
) -> None:
    scene = Scene(persona=make_tenant(tier=wide_tier), fake=fake_provider, provider="fake")
    llm = {"provider": "fake", "model": "fake-chat", "max_tokens": 50}
    agent = scene.post("/agents", {"slug": "pumps", "name": "Pumps", "llm": llm})["id"]
    body = {"agent_id": agent, "message": f"{MESSAGE} {uuid4().hex}"}

    scene.wait_for_run(UUID(post(f"{address}/chat", scene.persona.key, body)[1]["run_id"]))
    [first] = scene.attempts()
    limit = first.fresh_input_tokens + first.cached_input_tokens + first.plain_output_tokens
    limit += COVERED * first.hold_tokens + first.hold_tokens - 1
    with operator_scope("test"):
        Tenant.objects.filter(pk=scene.persona.tenant.pk).update(monthly_token_limit=limit)
    # Nothing is answered before all is decided, so what an answer leaves of its hold covers no other.
    fake_provider.fail("hold", match={"contains": body["message"]}, times=None)
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(lambda _: post(f"{address}/chat", scene.persona.key, body), range(REQUESTS)))
    assert Counter(status for status, _ in answers) == {202: REQUESTS}

    def ends() -> Counter[str]:
        with unit_of_work(scene.persona.ctx):
            return Counter(Run.objects.exclude(status__in=Run.unfinished).values_list("error_code", flat=True))

    wait_until(lambda: ends()["budget_exceeded"] == REQUESTS - COVERED, seconds=300)
    wait_until(lambda: len(fake_provider.running()) == COVERED, seconds=60)
    with unit_of_work(scene.persona.ctx):
        budget = Budget.objects.get()
    assert limit - first.hold_tokens < budget.spent_tokens + budget.held_tokens <= limit

    fake_provider.release()
    wait_until(lambda: sum(ends().values()) == REQUESTS + 1, seconds=300)
    assert ends() == {"budget_exceeded": REQUESTS - COVERED, "": COVERED + 1}
    assert len(fake_provider.arrivals()) == COVERED + 1
    with unit_of_work(scene.persona.ctx):
        assert Counter(Attempt.objects.values_list("state", flat=True)) == {"settled": COVERED + 1}
        assert Budget.objects.get().spent_tokens <= limit
    scene.check_books()
