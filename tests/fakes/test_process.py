"""The fake provider itself: what tests of the till take for granted."""

import http.client
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fakes.process import ROOT, FakeProvider

THREADS = 16
EACH = 20


def ask(connection: http.client.HTTPConnection, request_id: str) -> int:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": f"Question {request_id}?"}], "max_tokens": 50}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"X-Client-Request-Id": request_id})
    response = connection.getresponse()
    response.read()
    return response.status


def test_every_answer_of_many_callers_is_in_the_tally_once(tmp_path: Path) -> None:
    provider = FakeProvider(tmp_path / "tally.jsonl")

    def work(worker: int) -> list[int]:
        connection = http.client.HTTPConnection("127.0.0.1", provider.port)
        statuses = [ask(connection, f"{worker}-{number}") for number in range(EACH)]
        connection.close()
        return statuses

    with ThreadPoolExecutor(THREADS) as pool:
        statuses = [status for statuses in pool.map(work, range(THREADS)) for status in statuses]
    lines = [json.loads(line) for line in (tmp_path / "tally.jsonl").read_text().splitlines()]
    assert statuses == [200] * THREADS * EACH
    assert sorted(line["request_id"] for line in lines) == sorted(
        f"{worker}-{number}" for worker in range(THREADS) for number in range(EACH)
    )
    assert lines == provider.tally()
    provider.stop()


def test_the_tally_outlives_a_killed_provider(tmp_path: Path) -> None:
    provider = FakeProvider(tmp_path / "tally.jsonl")
    provider.fail("drop")
    connection = http.client.HTTPConnection("127.0.0.1", provider.port)
    try:
        ask(connection, "never-answered")
    except http.client.RemoteDisconnected:
        connection.close()
    provider.stop()
    (line,) = map(json.loads, (tmp_path / "tally.jsonl").read_text().splitlines())
    assert line["request_id"] == "never-answered"
    assert line["total"] == line["prompt_tokens"] + line["completion_tokens"]


def test_a_fault_strikes_only_the_requests_it_is_meant_for(tmp_path: Path) -> None:
    provider = FakeProvider(tmp_path / "tally.jsonl")
    provider.fail("503", match={"request_id": "b"}, times=2)
    provider.fail("429", match={"contains": "Question c"}, times=None)
    connection = http.client.HTTPConnection("127.0.0.1", provider.port)
    assert [ask(connection, request_id) for request_id in "abbbccc"] == [200, 503, 503, 200, 429, 429, 429]
    connection.close()
    provider.stop()


def test_as_anthropic_it_refuses_what_anthropic_refuses(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Question?"}]
    good = {"model": "claude-sonnet-5-5", "max_tokens": 50, "messages": turns}
    headers = {"Authorization": "Bearer sk", "anthropic-version": "2026-10-21"}
    refused = {
        "no limit": {name: good[name] for name in ("model", "messages")},
        "a temperature": {**good, "temperature": 1.0},
        "stream options": {**good, "stream": True, "stream_options": {"include_usage": True}},
        "a system among the messages": {**good, "messages": [{"role": "system", "content": "Be brief."}, *turns]},
        "an assistant's turn first": {**good, "messages": [{"role": "assistant", "content": "Hello."}, *turns]},
        "an assistant's turn last": {**good, "messages": [*turns, {"role": "assistant", "content": "It is"}]},
        "an empty turn": {**good, "messages": [*turns, {"role": "assistant", "content": ""}, *turns]},
        "no turn": {**good, "messages": []},
        "an empty system": {**good, "system": " "},
    }
    provider = FakeProvider(tmp_path / "tally.jsonl")
    connection = http.client.HTTPConnection("127.0.0.1", provider.port)

    def status(body: object, headers: dict[str, str]) -> int:
        connection.request("POST", "/v1/messages", json.dumps(body), headers)
        response = connection.getresponse()
        assert (json.load(response)["type"] == "error") == (response.status != 200)
        return response.status

    assert status(good, headers) == 200
    assert {name: status(body, headers) for name, body in refused.items()} == dict.fromkeys(refused, 400)
    assert status(good, {"Authorization": "Bearer sk"}) == 400
    assert status(good, {"anthropic-version": "2026-10-21"}) == 401
    assert len(provider.tally()) == 1
    connection.close()
    provider.stop()


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fakes.provider", "--tally", str(tmp_path / "tally.jsonl"), "--while-stdin"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.communicate()  # closes its standard input, as the end of this process would
    assert process.returncode == 0
