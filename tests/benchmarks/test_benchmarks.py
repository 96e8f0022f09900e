"""The benchmarks as somebody runs them, as short as they can be: they come to their end and report what they say."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apps.ledger.checks import CHECKS
from benchmarks import context, fairness
from tests.nooble.commands import run

#: The Cranfield collection, were it this small: in its own files and format.
CRANFIELD = {
    "cran.all.1400.xml": """
        <doc><docno>1</docno><title>wings</title><author>n. n.</author><bib>1950</bib>
        <text>the lift of a wing in a slipstream .</text></doc>
        <doc><docno>2</docno><title>heat</title><author>n. n.</author><bib>1951</bib>
        <text>heat transfer in a laminar boundary layer .</text></doc>
        <doc><docno>3</docno><title>shells</title><author>n. n.</author><bib>1952</bib>
        <text>buckling of thin cylindrical shells .</text></doc>
    """,
    "cran.qry.xml": """
        <top><num>1</num><title>what lifts a wing in a slipstream</title></top>
        <top><num>2</num><title>how do cylindrical shells buckle</title></top>
    """,
    "cranqrel.trec.txt": "1 0 1 1\n2 0 3 1\n",
}


Report = dict[str, Any]


def unlimited(report: Report) -> None:
    """A benchmark that measures and does not judge."""


def report_of(script: str, *options: str, complaint: Callable[[Report], str | None] = unlimited) -> Report:
    """The JSON object in the last line that a benchmark writes. How fast this machine is decides nothing here."""
    done = run([sys.executable, f"benchmarks/{script}", *options])
    assert done.stdout, done.stderr
    report: Report = json.loads(done.stdout.splitlines()[-1])
    complained = complaint(report)
    assert done.returncode == (1 if complained else 0), done.stderr
    assert (complained or "") in done.stderr
    return report


def test_a_large_ledger_agrees_with_itself_and_no_step_reads_a_table_of_it_from_end_to_end() -> None:
    report = report_of("ledger.py", "--rows", "20000", "--quick")
    assert report["entries"] == 20_000
    comparisons = [report["reconciliation"]["whole"], *report["reconciliation"]["recent"]]
    assert [comparison["found"] for comparison in comparisons] == [{}, {}, {}]
    for comparison in comparisons:
        assert comparison["by_kind"].keys() == {check.kind.value for check in CHECKS}
        assert comparison["seconds"] > 0
    assert report["usage"].keys() == report["usage_entries"].keys() == {"p50_ms", "p95_ms"}
    assert report["insert"].keys() == {"hold_settle", "bulk"}
    assert all(rates.keys() == {"full", "empty", "ratio"} for rates in report["insert"].values())
    assert report["sequential_scans"] == {}


def test_the_ledger_is_measured_beside_bare_inserts() -> None:
    report = report_of("ledger.py", "--quick")
    assert report.keys() == {"hold_settle", "bulk", "raw", "ratio", "p50_ms"}
    assert report["ratio"].keys() == {"hold_settle", "hold_settle_one_tenant", "bulk", "p50"}


def test_retrieval_finds_what_answers_the_questions_of_a_small_collection(tmp_path: Path) -> None:
    for name, text in CRANFIELD.items():
        (tmp_path / name).write_text(text)
    report = report_of("retrieval.py", "--dataset", str(tmp_path))
    assert report.keys() == {"hybrid", "vector", "lexical"}
    assert {mode: figures["ndcg@10"] for mode, figures in report.items()} == dict.fromkeys(report, 1.0)
    assert all(figures["p50_ms"] > 0 for figures in report.values())


def test_a_context_is_measured_with_what_it_weighs() -> None:
    report = report_of("context.py", "--rounds", "5", complaint=context.complaint)
    assert report.keys() == {"build_ms", "sign_ms", "verify_ms", "together_ms", "signed_bytes"}
    assert 0 < report["signed_bytes"] < 16 * 1024


def test_a_tenants_waiting_is_measured_beside_anothers_backlog() -> None:
    report = report_of("fairness.py", "--backlog", "60", "--rounds", "1", complaint=fairness.complaint)
    assert report["batch_wait_p95_ms"].keys() == report["answer_p50_ms"].keys() == {"idle", "beside_backlog"}
    assert report["backlog"] == 60
    assert report["backlog_left"] > 0


@pytest.mark.parametrize(("wait", "is_too_long"), [(600, False), (601, True)])
def test_a_batch_that_waits_longer_than_the_limit_is_complained_of(wait: int, is_too_long: bool) -> None:
    report = {"batch_wait_p95_ms": {"idle": 200, "beside_backlog": wait}, "batch_wait_limit_ms": 600}
    assert bool(fairness.complaint(report)) == is_too_long


@pytest.mark.parametrize(("together", "is_too_long"), [(0.5, False), (0.51, True)])
def test_a_context_that_takes_longer_than_the_limit_is_complained_of(together: float, is_too_long: bool) -> None:
    assert bool(context.complaint({"together_ms": together})) == is_too_long
