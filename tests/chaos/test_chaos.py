"""The harness in its short form, and the proof that it can fail."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Outcome:
    status: int
    output: str

    @property
    def differences(self) -> list[str]:
        return [line for line in self.output.splitlines() if line.startswith("DIFFERENCE")]


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, Outcome]]:
    """The harness and its control, each in a process of its own with engines of its own, as ``make chaos`` runs it.

    Both at once: most of their time they wait for leases to run out.
    """
    forms = {"short": ["--short", "--seconds", "10"], "control": ["--naive", "--seconds", "4", "--calm", "60"]}
    command = [sys.executable, "-m", "tests.chaos"]
    processes = {
        name: subprocess.Popen(
            [*command, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for name, options in forms.items()
    }
    try:
        outputs = {name: process.communicate()[0] for name, process in processes.items()}
        yield {name: Outcome(processes[name].returncode, output) for name, output in outputs.items()}
    finally:
        for process in processes.values():
            # Asked, not killed: it takes its engines and workers down.
            process.terminate()
            process.wait()


def test_the_books_agree_whatever_was_killed_cut_off_or_restarted_meanwhile(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["short"]
    print(outcome.output)
    assert outcome.differences == []
    assert outcome.status == 0, outcome.output


@pytest.mark.parametrize("found", ["is void, the provider counted", "is not the tally of", "is above the limit of"])
def test_a_till_that_releases_on_error_and_reads_before_it_writes_fails(
    outcomes: dict[str, Outcome], found: str
) -> None:
    control = outcomes["control"]
    assert control.status == 1, control.output
    assert any(found in difference for difference in control.differences), control.output
