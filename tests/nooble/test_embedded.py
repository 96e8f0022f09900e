"""The embedded engines: who starts them, who stops them, and what they survive."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from nooble import embedded
from nooble.embedded import Engines

# Joins, says so, and leaves when its input ends.
USER = """
import sys
from pathlib import Path
from nooble.embedded import Engines
with Engines(Path(sys.argv[1])):
    print("joined", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """Not pytest's temporary directory: PostgreSQL may run as another user, who cannot enter that."""
    directory = Path(tempfile.mkdtemp(prefix="nooble-test-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def engines(data_dir: Path) -> Iterator[Engines]:
    with Engines(data_dir) as engines:
        yield engines
    assert not engines.running()


def user(data_dir: Path) -> "subprocess.Popen[str]":
    """Another process that uses the engines until its input is closed."""
    command = [sys.executable, "-c", USER, str(data_dir)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def joined(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "joined\n"


def leave(process: "subprocess.Popen[str]") -> None:
    process.communicate()
    assert process.returncode == 0


def postgres_process(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def redis_process(data_dir: Path) -> int:
    with redis.Redis.from_url(embedded.redis_url(data_dir)) as client:
        return int(client.info("server")["process_id"])


def query(data_dir: Path, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(embedded.owner_url(data_dir)) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_addresses_are_known_before_anything_runs(data_dir: Path) -> None:
    assert embedded.database_url(data_dir).startswith("postgresql://nooble_app@/nooble?host=")
    assert embedded.owner_url(data_dir).startswith("postgresql://nooble_owner@/nooble?host=")
    assert embedded.redis_url(data_dir) == f"unix://{data_dir}/run/redis.sock?db=0"
    assert list(data_dir.iterdir()) == []


def test_a_long_path_gets_its_sockets_elsewhere(data_dir: Path) -> None:
    long = data_dir / ("deep" * 30)
    assert len(str(embedded.socket_dir(long) / ".s.PGSQL.5432")) < 104
    assert embedded.socket_dir(long) != embedded.socket_dir(long / "er")


def test_the_database_has_vectors_and_so_has_every_database_made_later(engines: Engines, data_dir: Path) -> None:
    installed = "SELECT extname FROM pg_extension WHERE extname = 'vector'"
    assert query(data_dir, installed)
    with psycopg.connect(embedded.owner_url(data_dir), autocommit=True) as connection:
        connection.execute("CREATE DATABASE later")
        with psycopg.connect(embedded.owner_url(data_dir), dbname="later") as later:
            assert later.execute(installed).fetchall()
        connection.execute("DROP DATABASE later")


def test_a_second_user_attaches_and_the_last_one_out_stops_them(data_dir: Path) -> None:
    first = Engines(data_dir)
    first.join()
    server = postgres_process(data_dir)
    second = user(data_dir)
    joined(second)
    first.leave()
    assert first.running()
    assert postgres_process(data_dir) == server
    leave(second)
    assert not first.running(["postgres"])
    assert not first.running(["redis"])


def test_two_first_users_at_once_start_them_once(data_dir: Path) -> None:
    processes = [user(data_dir) for _ in range(3)]
    for process in processes:
        joined(process)
    started = (data_dir / "log" / "postgres.log").read_text()
    for process in processes:
        leave(process)
    assert "lock file" not in started
    assert not Engines(data_dir).running(["postgres"])


def test_both_recover_when_they_are_killed(engines: Engines, data_dir: Path) -> None:
    query(data_dir, "CREATE TABLE IF NOT EXISTS kept (id int)")
    query(data_dir, "INSERT INTO kept VALUES (1)")
    for process in (postgres_process(data_dir), redis_process(data_dir)):
        os.kill(process, signal.SIGKILL)
    engines.join()
    assert query(data_dir, "SELECT count(*) FROM kept") == [(1,)]
    assert redis_process(data_dir)


def test_a_stale_process_id_that_is_somebody_elses_now_is_no_obstacle(data_dir: Path) -> None:
    with Engines(data_dir):
        os.kill(redis_process(data_dir), signal.SIGKILL)
        killed = postgres_process(data_dir)
        os.kill(killed, signal.SIGKILL)
    pid_file = data_dir / "postgres" / "postmaster.pid"
    # A process of PostgreSQL's own user is the worst case: it makes a postmaster believe that another is running.
    with subprocess.Popen(["sleep", "60"], user=pid_file.stat().st_uid) as sleeper:
        pid_file.write_text(pid_file.read_text().replace(str(killed), str(sleeper.pid), 1))
        with Engines(data_dir):
            assert query(data_dir, "SELECT 1") == [(1,)]
        sleeper.kill()


def test_engines_of_users_that_were_killed_are_found_and_stopped(data_dir: Path) -> None:
    process = user(data_dir)
    joined(process)
    engines = Engines(data_dir)
    assert not engines.stop_abandoned()
    process.kill()
    process.communicate()
    assert engines.running()
    assert engines.stop_abandoned()
    assert not engines.running(["postgres"])


def test_a_forked_child_that_ends_stops_nothing(engines: Engines, data_dir: Path) -> None:
    child = os.fork()
    if child == 0:
        engines.leave()
        os._exit(0)
    os.waitpid(child, 0)
    assert engines.running()
    assert query(data_dir, "SELECT 1") == [(1,)]


def test_an_interrupted_initdb_leaves_nothing_in_the_way() -> None:
    directory = Path(tempfile.mkdtemp(prefix="nooble-test-"))
    (directory / "postgres.new").mkdir()
    (directory / "postgres.new" / "half").touch()
    with Engines(directory):
        assert query(directory, "SELECT 1") == [(1,)]
    shutil.rmtree(directory)


def test_sockets_are_nobody_elses_to_open(engines: Engines, data_dir: Path) -> None:
    assert embedded.socket_dir(data_dir).stat().st_mode & 0o077 == 0
