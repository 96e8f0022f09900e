"""Killed at every instant between two effects of hold, call and settle: driven again, the work is paid once.

Each way of buying is first followed to learn its instants. Then it is begun anew for each of them, every name and every
occurrence, killed there with SIGKILL, and driven again in another process as the work list would; then it is asked for
once more, which must not reach the provider.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.conftest import worker_environment
from tests.faults.purchases import Instant, Purchase, Shop, Way
from tests.faults.scene import wait_until

Database = psycopg.Connection[tuple[Any, ...]]

WAYS = {
    "an answer": Way(work="complete"),
    "an answer after a 429": Way(work="complete", fault="429"),
    "an answer after a 500": Way(work="complete", fault="500"),
    "an answer after one that was dropped": Way(work="complete", fault="drop"),
    "an answer that is put off": Way(work="complete", fault="429", retries=0),
    "a refusal": Way(work="complete", fault="400", always=True, state="failed"),
    "an answer after a kill before settle": Way(work="complete", before=("before settle", 0)),
    "vectors": Way(work="embed"),
    "vectors after a kill before COMMIT": Way(work="embed", before=("after settle", 0)),
    "a stream": Way(work="stream"),
    "a stream after one that was cut": Way(work="stream", fault="cut"),
    "a stream that was cut and is kept": Way(work="stream", fault="cut", options={"partial": "keep"}),
    "a stream that is cancelled": Way(work="stream", options={"cancel": True}, state="cancelled"),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_killed_at_any_instant_it_is_paid_once(shop: Shop, way: Way) -> None:
    followed = shop.purchase(way)
    instants: list[Instant] = [(name, number) for name, number in followed.drive()["instants"]]
    assert len(instants) >= 6
    for instant in instants:
        purchase = shop.purchase(way)
        killed = purchase.drive(instant)
        # How many pieces are still read of a stream that is cancelled is a matter of luck.
        lucky = "cancel" in way.options and instant[0] in {"after a piece", "after send"} and killed["status"] == 0
        assert lucky or killed["status"] == -signal.SIGKILL, f"not killed {instant}: {killed}"
        ended = purchase.finish()
        try:
            purchase.check()
            purchase.check_replay(ended)
        except AssertionError as error:
            error.add_note(f"killed {instant}, then {ended}; {purchase.states()}; tally {purchase.tally()}")
            raise


@pytest.mark.parametrize("work", ["complete", "embed", "stream"])
def test_killed_while_the_provider_works_it_is_paid_once(shop: Shop, work: str) -> None:
    """The request has left, and the answer has not come. The provider counts it when nobody waits any more."""
    purchase = shop.purchase(Way(work=work, fault="hold"))
    process = shop.buyers.begin(purchase.order())
    request_id = purchase.await_call()
    os.kill(process, signal.SIGKILL)
    assert shop.buyers.end()["status"] == -signal.SIGKILL
    shop.fake.release()
    purchase.await_count(request_id)
    ended = purchase.finish()
    assert purchase.states() == (["settled"] if shop.provider == "askable" else ["unknown", "settled"])
    purchase.check()
    purchase.check_replay(ended)


@pytest.mark.parametrize("killed", [{"process"}, {"connection"}, {"process", "connection"}], ids=" and ".join)
@pytest.mark.parametrize("work", ["complete", "embed"])
def test_killed_inside_the_transaction_of_settle_it_is_paid_once(shop: Shop, work: str, killed: set[str]) -> None:
    """Settle waits for its last lock, the budget's: everything is written and nothing committed."""
    purchase = shop.purchase(Way(work=work, fault="hold"))
    process = shop.buyers.begin(purchase.order())
    purchase.await_call()
    with locked_budget(purchase) as database:
        shop.fake.release()
        backend = settling(database)
        if "process" in killed:
            os.kill(process, signal.SIGKILL)
        if "connection" in killed:
            database.execute("SELECT pg_terminate_backend(%s)", [backend])
    ended = shop.buyers.end()
    assert ended["status"] == (-signal.SIGKILL if "process" in killed else 0)
    # Whoever is only cut off settles once more by itself.
    if "process" in killed:
        ended = purchase.finish()
    purchase.check()
    purchase.check_replay(ended)


@contextmanager
def locked_budget(purchase: Purchase) -> Iterator[Database]:
    with psycopg.connect(worker_environment()["DATABASE_URL"]) as database:
        database.execute("SET ROLE nooble_operator")
        lock = "SELECT 1 FROM ledger_budget WHERE tenant_id = %s FOR UPDATE"
        assert database.execute(lock, [purchase.persona.tenant.pk]).fetchone()
        # Whoever is to be seen and ended is the application's.
        database.execute("SET ROLE nooble_app")
        yield database


def settling(database: Database) -> int:
    """The server's process that waits in settle."""
    waiting = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%%ledger_settle%%' AND wait_event_type = 'Lock'"
    found: list[tuple[Any, ...]] = []

    def waits() -> bool:
        # A transaction sees others as they were when it looked first.
        database.execute("SELECT pg_stat_clear_snapshot()")
        found[:] = database.execute(waiting).fetchall()
        return bool(found)

    wait_until(waits, seconds=60)
    [(process,)] = found
    return int(process)
