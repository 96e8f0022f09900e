"""The suite's own report."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SUITE = '''
"""Answers."""
import pytest
from tests.conformance.subjects import SUBJECTS

@pytest.mark.parametrize("subject", SUBJECTS[:2], ids=lambda subject: subject.name)
@pytest.mark.parametrize("number", [1, 2])
def test_a_question_is_answered(subject, number):
    assert (subject.name, number) != ("groq", 1)

def test_the_suite_is_whole():
    pass

@pytest.fixture
def broken():
    raise OSError

def test_the_suite_begins(broken):
    pass
'''


def row(lines: list[str], behaviour: str) -> dict[str, str]:
    """The cells of a behaviour by column."""
    [heading] = [line for line in lines if line.endswith("  behaviour")]
    [cells] = [line for line in lines if line.endswith(f"  {behaviour}")]
    return dict(zip(heading.split()[:-1], cells.split(), strict=False))


def test_a_failure_fails_its_cell_and_the_command(tmp_path: Path) -> None:
    file = tmp_path / "test_suite.py"
    file.write_text(SUITE.lstrip())
    options = ["-q", "-c", "pyproject.toml", "--ds", "settings.test", "-p", "tests.conformance.report", str(file)]
    command = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    cells = row(lines, "a question is answered")
    assert (cells["openai"], cells["groq"], cells["local"], cells["alone"]) == ("ok", "FAILED", "n/a", "n/a")
    assert row(lines, "the suite is whole")["alone"] == "ok"
    # What cannot begin has failed, too.
    assert row(lines, "the suite begins")["alone"] == "FAILED"
    assert "Answers." in lines
    assert [line for line in lines if line.startswith("2 of 4 cells FAILED; 6 tests")]
