"""Usage that is reported while PostgreSQL is away: kept on the disk, booked once when it is back."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest
from django.conf import settings as configured
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, connections
from django.test import Client
from pytest_django import Settings

from apps.core.db import ScopeError, unit_of_work
from apps.ledger import records, spool
from apps.ledger.booking import Recorded
from apps.ledger.errors import SpoolUnavailableError
from apps.ledger.models import Discrepancy, Entry
from apps.ledger.records import UsageEvent, track_token_usage_many
from apps.ledger.spool import Replayed
from apps.ledger.types import OperationKind, TokenCounts, TokenType
from nooble import embedded
from settings.variables import ROOT
from tasks.maintenance import sweep
from tests.conftest import worker_environment
from tests.faults.line import Line, line_to_database
from tests.ledger.test_records import track
from tests.ledger.test_till import check_books
from tests.personas import Persona


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, settings: Settings) -> Path:
    """A spool of the test's own; nobody waits long for a database that is away."""
    settings.SPOOL_DIR = tmp_path / "spool"
    settings.SPOOL_AFTER_SECONDS = 0.01
    return tmp_path / "spool"


@pytest.fixture
def line(database: None) -> Iterator[Line]:
    with line_to_database() as line:
        yield line


def event(key: str, tokens: int = 100) -> UsageEvent:
    return UsageEvent(
        idempotency_key=key,
        counts=TokenCounts(fresh_input_tokens=tokens),
        token_type=TokenType.FINE_TUNING,
        operation=OperationKind.BATCH,
        model="ft-1",
    )


def spooled(owner: Persona, line: Line, *keys: str) -> list[Recorded]:
    """Usage that is reported while the database is away; afterwards it is back."""
    line.cut()
    found = track_token_usage_many(owner.tenant.pk, [event(key) for key in keys])
    assert {each.outcome for each in found} == {"spooled"}
    line.mend()
    return found


def entries(owner: Persona) -> dict[str, UUID]:
    with unit_of_work(owner.ctx):
        return dict(Entry.objects.values_list("idempotency_key", "pk"))


def refusals(directory: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(directory / "usage.sqlite3") as file:
        return file.execute("SELECT idempotency_key, code FROM refused ORDER BY 1").fetchall()


def test_without_a_failure_there_is_no_spool(owner: Persona, directory: Path) -> None:
    track(owner, "s-0")
    assert spool.replay() == Replayed()
    assert not directory.exists()


def test_usage_that_is_reported_while_the_database_is_away_is_booked_when_it_is_back(
    owner: Persona, line: Line
) -> None:
    line.cut()
    first = track(owner, "s-1")
    assert (first.outcome, spool.waiting()) == ("spooled", 1)
    line.mend()
    assert spool.replay() == Replayed(booked=1)
    assert entries(owner) == {"s-1": first.entry_id}
    assert (spool.waiting(), spool.refused()) == (0, 0)
    again = track(owner, "s-1")
    assert (again.outcome, again.entry_id) == ("duplicate", first.entry_id)
    assert check_books(owner.ctx).spent_tokens == 100


def test_a_database_that_is_back_in_time_is_written_to(
    owner: Persona, line: Line, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.SPOOL_AFTER_SECONDS = 30.0
    line.cut()
    with ThreadPoolExecutor(1) as pool:

        def report() -> Recorded:
            try:
                return track(owner, "s-2")
            finally:
                connection.close()

        reported = pool.submit(report)
        while "trying again" not in caplog.text:
            assert not reported.done()
            time.sleep(0.01)
        line.mend()
        assert reported.result().outcome == "created"
    assert spool.waiting() == 0


def test_a_lost_reply_is_no_second_entry(owner: Persona, line: Line, settings: Settings) -> None:
    settings.SPOOL_AFTER_SECONDS = 30.0
    connection.ensure_connection()
    line.loses_next_reply = True
    recorded = track(owner, "s-3")
    assert not line.loses_next_reply
    assert (recorded.outcome, recorded.entry_id) == ("created", entries(owner)["s-3"])
    assert check_books(owner.ctx).spent_tokens == 100


def test_a_lost_reply_and_then_no_database_is_no_second_entry_either(owner: Persona, line: Line) -> None:
    connection.ensure_connection()
    line.loses_next_reply = line.then_cut = True
    recorded = track(owner, "s-4")
    line.mend()
    assert (recorded.outcome, entries(owner)) == ("spooled", {"s-4": recorded.entry_id})
    assert spool.replay() == Replayed(booked=1)
    assert check_books(owner.ctx).spent_tokens == 100


def test_reported_again_while_it_waits_it_is_one_event_with_one_id(owner: Persona, line: Line) -> None:
    line.cut()
    first, second = track(owner, "s-5"), track(owner, "s-5")
    assert first == second
    assert spool.waiting() == 1


def test_whoever_reports_next_books_what_waits(owner: Persona, stranger: Persona, line: Line) -> None:
    spooled(owner, line, "s-6", "s-7")
    assert track(stranger, "s-8").outcome == "created"
    assert (spool.waiting(), set(entries(owner))) == (0, {"s-6", "s-7"})
    assert check_books(owner.ctx).spent_tokens == 200


def test_the_sweeper_books_what_waits(owner: Persona, line: Line) -> None:
    spooled(owner, line, "s-9")
    assert sweep()["replayed"] == 1
    assert set(entries(owner)) == {"s-9"}


def test_the_command_books_what_waits_and_says_so(
    owner: Persona, line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    spooled(owner, line, "s-10", "s-11")
    track_many_elsewhere(owner, "s-11")
    line.cut()
    with pytest.raises(CommandError, match="2 wait"):
        call_command("replay_spool")
    line.mend()
    call_command("replay_spool")
    printed = [line.split() for line in capsys.readouterr().out.splitlines()[-4:]]
    assert printed == [["booked", "1"], ["duplicates", "1"], ["refused", "0,", "0", "in", "all"], ["waiting", "0"]]


def track_many_elsewhere(owner: Persona, key: str) -> None:
    """Another host books it, whose spool is not this one."""
    assert records.record(owner.ctx, event(key)).outcome == "created"


def test_readiness_says_how_much_waits_and_depends_on_none_of_it(owner: Persona, line: Line) -> None:
    assert Client().get("/health/ready").json()["spool"] == {"waiting": 0, "refused": 0}
    spooled(owner, line, "s-12", "s-13")
    ready = Client().get("/health/ready")
    assert (ready.status_code, ready.json()["spool"]) == (200, {"waiting": 2, "refused": 0})


def test_replayed_twice_it_is_booked_once(owner: Persona, line: Line) -> None:
    spooled(owner, line, *(f"s-{number}" for number in range(12)))
    assert (spool.replay(), spool.replay()) == (Replayed(booked=12), Replayed())
    assert check_books(owner.ctx).entries == 12


def test_what_the_database_refuses_for_good_is_kept_with_its_reason_and_blocks_nothing(
    owner: Persona, stranger: Persona, line: Line, directory: Path
) -> None:
    track(owner, "s-20", 1)
    nobody = UUID(int=1)
    line.cut()
    track_token_usage_many(nobody, [event("s-21")])
    track_token_usage_many(owner.tenant.pk, [event("s-22"), event("s-20"), event("s-23"), event("s-23", 7)])
    track(stranger, "s-24")
    line.mend()
    assert spool.replay() == Replayed(booked=3, refused=3)
    assert refusals(directory) == [
        ("s-20", "idempotency_conflict"),
        ("s-21", "ledger_row_not_found"),
        ("s-23", "idempotency_conflict"),
    ]
    assert (spool.waiting(), spool.refused()) == (0, 3)
    assert check_books(owner.ctx).spent_tokens == 201
    assert check_books(stranger.ctx).spent_tokens == 100
    with unit_of_work(owner.ctx):
        assert Discrepancy.objects.count() == 2


def test_what_is_not_valid_is_not_spooled(owner: Persona, line: Line) -> None:
    line.cut()
    found = track_token_usage_many(owner.tenant.pk, [event("s-25"), event("s-26", 0), event("a\0b")])
    assert [each.outcome for each in found] == ["spooled", "invalid", "invalid"]
    assert spool.waiting() == 1


def test_eight_threads_spool_at_once(owner: Persona, line: Line) -> None:
    line.cut()
    with ThreadPoolExecutor(8) as pool:

        def report(thread: int) -> None:
            track_token_usage_many(owner.tenant.pk, [event(f"s-{thread}-{number}") for number in range(10)])
            track(owner, "the same of all")

        list(pool.map(report, range(8)))
    assert spool.waiting() == 81
    line.mend()
    assert spool.replay() == Replayed(booked=81)
    assert check_books(owner.ctx).entries == 81


def test_without_a_spool_the_caller_hears_that_nothing_is_recorded(owner: Persona, line: Line, directory: Path) -> None:
    directory.write_text("no directory")
    line.cut()
    with pytest.raises(SpoolUnavailableError):
        track(owner, "s-30")


def test_a_replay_that_cannot_lock_the_spool_says_so(owner: Persona, line: Line, directory: Path) -> None:
    line.cut()
    track(owner, "s-31")
    line.mend()
    (directory / "replay.lock").mkdir()
    with pytest.raises(SpoolUnavailableError):
        spool.replay()
    assert spool.waiting() == 1


def test_a_spool_that_is_broken_does_not_touch_a_report_that_is_booked(
    owner: Persona, line: Line, directory: Path
) -> None:
    spooled(owner, line, "s-31")
    (directory / "usage.sqlite3").write_bytes(b"no database" * 1000)
    assert track(owner, "s-32").outcome == "created"


def test_in_a_transaction_usage_is_booked_with_it_or_not_at_all(owner: Persona) -> None:
    def give_up() -> None:
        with unit_of_work(owner.ctx):
            assert track(owner, "s-40").outcome == "created"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        give_up()
    assert entries(owner) == {}
    with unit_of_work(owner.ctx):
        track(owner, "s-40")
    assert check_books(owner.ctx).spent_tokens == 100


def test_in_a_transaction_whose_connection_breaks_nothing_is_spooled(owner: Persona, line: Line) -> None:
    def lose_it() -> None:
        with unit_of_work(owner.ctx):
            line.cut()
            track(owner, "s-41")

    with pytest.raises(OperationalError):
        lose_it()
    line.mend()
    assert (spool.waiting(), entries(owner)) == (0, {})


def test_in_another_tenants_transaction_nothing_is_booked(owner: Persona, stranger: Persona) -> None:
    with pytest.raises(ScopeError), unit_of_work(stranger.ctx):
        track(owner, "s-42")
    assert entries(owner) == {}


SCRIPT = """
import os, signal, sys
from uuid import UUID
import django
import stamina
django.setup()
stamina.instrumentation.set_on_retry_hooks([])  # which print
from apps.ledger import spool
from apps.ledger.records import UsageEvent, track_token_usage_many
from apps.ledger.types import OperationKind, TokenCounts, TokenType

def die_after(name):
    act = getattr(spool, name)
    def act_and_die(*args):
        act(*args)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(spool, name, act_and_die)

def report(key):
    counts = TokenCounts(fresh_input_tokens=100)
    event = UsageEvent(idempotency_key=key, counts=counts, token_type=TokenType.FINE_TUNING,
                       operation=OperationKind.BATCH, model="ft-1")
    [recorded] = track_token_usage_many(UUID(sys.argv[1]), [event])
    print(key, recorded.outcome, recorded.entry_id, flush=True)
"""


def process(owner: Persona, script: str, **environment: str) -> "subprocess.Popen[str]":
    """Another process of this host: same database, same spool."""
    command = [sys.executable, "-c", SCRIPT + script, str(owner.tenant.pk)]
    own = {**worker_environment(), "SPOOL_DIR": str(configured.SPOOL_DIR), "SPOOL_AFTER_SECONDS": "0.1", **environment}
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | own, stdout=subprocess.PIPE, text=True)


def test_a_process_that_is_killed_before_it_hears_that_usage_is_spooled_has_it_booked_once(
    owner: Persona, line: Line
) -> None:
    line.cut()
    killed = process(owner, "die_after('add'); report('s-50')")
    assert (killed.communicate()[0], killed.returncode) == ("", -signal.SIGKILL)
    assert spool.waiting() == 1
    # It did not hear, so it reports again, now there and then when the database is back.
    repeated, _ = process(owner, "report('s-50')").communicate()
    line.mend()
    assert track(owner, "s-50").outcome == "created"
    assert (repeated.split()[:2], spool.waiting()) == (["s-50", "spooled"], 0)
    assert check_books(owner.ctx).spent_tokens == 100


@pytest.mark.parametrize("instant", ["_booked", "_settle"])
def test_a_replay_that_is_killed_loses_and_doubles_nothing(owner: Persona, line: Line, instant: str) -> None:
    found = spooled(owner, line, *(f"s-{number}" for number in range(30)))
    killed = process(owner, f"die_after('{instant}'); spool.replay()")
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert check_books(owner.ctx).entries == 30
    assert spool.waiting() == (30 if instant == "_booked" else 0)
    spool.replay()
    assert spool.waiting() == 0
    assert set(entries(owner).values()) == {each.entry_id for each in found}
    assert check_books(owner.ctx).entries == 30


def test_what_a_process_heard_is_spooled_survives_its_kill(owner: Persona, line: Line) -> None:
    line.cut()
    reporter = process(owner, "for number in range(10_000): report(f's-{number}')")
    assert reporter.stdout is not None
    heard = {reporter.stdout.readline().split()[2] for _ in range(5)}
    reporter.kill()
    rest, _ = reporter.communicate()
    heard |= {said.split()[2] for said in rest.splitlines() if said.count(" ") == 2}
    line.mend()
    assert spool.replay().booked >= len(heard)
    assert heard <= {str(entry) for entry in entries(owner).values()}
    check_books(owner.ctx)


def test_processes_that_replay_at_once_book_each_event_once(owner: Persona, line: Line) -> None:
    spooled(owner, line, *(f"s-{number}" for number in range(2500)))
    running = [process(owner, "print(spool.replay().booked)") for _ in range(3)]
    booked = [int(each.communicate()[0]) for each in running]
    assert [each.returncode for each in running] == [0, 0, 0]
    assert (sum(booked), spool.waiting()) == (2500, 0)
    books = check_books(owner.ctx)
    assert (books.entries, books.spent_tokens) == (2500, 250_000)


def test_replays_that_know_nothing_of_each_other_book_each_event_once(
    owner: Persona, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock saves work; what keeps the books right are the keys."""
    spooled(owner, line, *(f"s-{number}" for number in range(50)))
    monkeypatch.setattr(spool, "_locked", lambda _: True)

    def replay(_: int) -> None:
        try:
            spool.replay()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(replay, range(4)))
    assert (spool.waiting(), spool.refused(), check_books(owner.ctx).entries) == (0, 0, 50)


def test_a_database_that_is_stopped_at_once_and_started_again_has_everything(owner: Persona) -> None:
    track(owner, "s-60")
    postmaster = configured.NOOBLE_DATA_DIR / "postgres" / "postmaster.pid"
    os.kill(int(postmaster.read_text().splitlines()[0]), signal.SIGQUIT)
    try:
        found = [track(owner, f"s-{number}") for number in range(60, 70)]
    finally:
        embedded.ensure()
        # Those of other roles, too: later tests would find them broken.
        connections.close_all()
    assert "spooled" in {each.outcome for each in found}
    spool.replay()
    assert set(entries(owner)) == {f"s-{number}" for number in range(60, 70)}
    books = check_books(owner.ctx)
    assert (books.entries, books.spent_tokens, spool.waiting()) == (10, 1000, 0)
