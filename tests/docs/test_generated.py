"""Pages that are generated from the code are in step with it, and the check that says so can fail."""

import re
from collections import defaultdict
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from nooble.management.commands import document_errors, document_settings
from nooble.management.pages import PageCommand
from tests.docs.pages import ROOT, page

COMMANDS = [document_errors.Command, document_settings.Command]
EACH_COMMAND = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.page.name)


@EACH_COMMAND
def test_the_page_is_what_the_code_declares(command: type[PageCommand]) -> None:
    call_command(command(), check=True)


@EACH_COMMAND
def test_a_page_that_is_out_of_step_is_reported_and_left_alone(
    command: type[PageCommand], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "old.md"
    old.write_text("# Old\n")
    monkeypatch.setattr(command, "page", old)
    with pytest.raises(CommandError, match=r"old\.md is out of step: run `python manage\.py document_"):
        call_command(command(), check=True)
    assert old.read_text() == "# Old\n"
    call_command(command())
    call_command(command(), check=True)


def test_every_error_code_in_the_source_is_on_the_page() -> None:
    """Read from the source, so that a module the command does not import is missed, too."""
    sources = [path for room in ("apps", "nooble", "tasks") for path in (ROOT / room).rglob("*.py")]
    codes = {code for path in sources for code in re.findall(r'^    code = "(\w+)"', path.read_text(), re.MULTILINE)}
    listed = set(re.findall(r"^\| `(\w+)` \|", page("docs/errors.md").text, re.MULTILINE))
    assert codes | {"internal_error"} == listed


def test_a_code_is_one_class() -> None:
    """So a code has one status, one title and one answer about a retry, and a client is told the same everywhere."""
    classes = defaultdict(list)
    for error in document_errors.error_classes():
        classes[error.code].append(error)
    assert {code: found for code, found in classes.items() if len(found) > 1} == {}


def test_every_error_has_a_title_of_one_line() -> None:
    assert [error for error in document_errors.error_classes() if not error.title().endswith(".")] == []
