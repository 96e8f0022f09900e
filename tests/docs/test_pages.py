"""What the pages say of each other and of the tree is true."""

import re
import tomllib
from collections.abc import Iterator

import pytest
from django.core.management import BaseCommand, get_commands, load_command_class

from nooble.demo import QUESTIONS
from settings.variables import VARIABLES
from tests.docs.pages import ROOT, Page, page, pages

MERMAID = {"flowchart", "sequenceDiagram", "stateDiagram-v2", "classDiagram", "erDiagram"}
#: Set for other programs, or by Django.
FOREIGN_VARIABLES = {"DJANGO_SETTINGS_MODULE", "FORWARDED_ALLOW_IPS"}

EACH_PAGE = pytest.mark.parametrize("written", pages(), ids=str)


@EACH_PAGE
def test_links_lead_somewhere(written: Page) -> None:
    for target, anchor in written.links():
        assert target.exists(), f"{written} links to {target.relative_to(ROOT)}, which is not there"
        if anchor:
            assert anchor in Page(target).anchors(), f"{written} links to #{anchor} of {target.name}"


@EACH_PAGE
def test_files_that_are_named_exist(written: Page) -> None:
    rooms = "apps|nooble|tasks|settings|tests|docs|demo|benchmarks"
    for span in written.code_spans():
        if re.fullmatch(rf"(?:{rooms})/[\w./-]+", span):
            assert (ROOT / span).exists(), f"{written} names {span}"


@EACH_PAGE
def test_diagrams_are_of_a_kind_that_is_drawn(written: Page) -> None:
    for block in written.blocks("mermaid"):
        kind, _, rest = block.partition("\n")
        assert kind.split()[0] in MERMAID
        assert rest.strip()


@EACH_PAGE
def test_every_block_of_code_is_closed(written: Page) -> None:
    assert written.text.count("\n```") % 2 == 0
    assert "```" not in written.prose


@EACH_PAGE
def test_variables_that_are_set_in_examples_exist(written: Page) -> None:
    known = {variable.name for variable in VARIABLES} | FOREIGN_VARIABLES | _make_variables()
    for block in written.blocks("sh"):
        assert set(re.findall(r"\b([A-Z][A-Z0-9_]*)=", block)) <= known


@EACH_PAGE
def test_make_targets_that_are_named_exist(written: Page) -> None:
    named = re.findall(r"\bmake ([a-z-]+)", "\n".join([*written.code_spans(), *written.blocks("sh")]))
    assert set(named) <= set(_make_targets())


@EACH_PAGE
def test_commands_that_are_named_exist_with_their_options(written: Page) -> None:
    for name, options in _commands(written):
        application = get_commands().get(name)
        assert application, f"{written} names manage.py {name}"
        command = application if isinstance(application, BaseCommand) else load_command_class(application, name)
        known = command.create_parser("manage.py", name)._option_string_actions
        assert set(options) <= known.keys(), f"{written} names {options} of manage.py {name}"


@EACH_PAGE
def test_the_demonstrations_questions_are_left_to_its_samples(written: Page) -> None:
    """The demonstration reads these pages, too: one that quoted a question would be found as its answer."""
    assert [question for question in QUESTIONS if question.text in written.text] == []


def test_make_targets_are_explained() -> None:
    explained = page("README.md").text + page("CONTRIBUTING.md").text
    named = set(re.findall(r"\bmake ([a-z-]+)", explained))
    assert set(_make_targets()) - named == {"help"}  # which is `make` alone


def test_the_readme_shows_as_many_import_contracts_as_there_are() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert f"\nContracts: {len(contracts)} kept, 0 broken.\n" in page("README.md").text


def test_the_first_deployment_runs_what_every_release_runs() -> None:
    deployment = page("README.md").text.partition("\n## Deploy\n")[2].partition("\n## ")[0]
    release = page("docs/operations.md").text.partition("\n## A release\n")[2].partition("\n## ")[0]
    commands = set(re.findall(r"`manage\.py (\w+)", release))
    assert commands
    assert commands <= set(re.findall(r"`manage\.py (\w+)", deployment))


def test_every_page_of_the_documentation_can_be_reached_from_the_readme() -> None:
    reached, new = set(), {ROOT / "README.md"}
    while new:
        reached |= new
        targets = {target for path in new if path.suffix == ".md" for target, _ in Page(path).links()}
        new = {target / "README.md" if target.is_dir() else target for target in targets} - reached
    assert {written.path for written in pages()} <= reached


def _commands(written: Page) -> Iterator[tuple[str, list[str]]]:
    """The commands of ``manage.py`` that a page calls, with the options it gives them."""
    lines = [
        *written.code_spans(),
        *(line for kind in ("sh", "") for line in "".join(written.blocks(kind)).splitlines()),
    ]
    for line in lines:
        for name, rest in re.findall(r"manage\.py (\w+)([^#|]*)", line):
            yield name, re.findall(r"\s(--[a-z][a-z-]*)", rest.partition(" -- ")[0])


def _make_targets() -> list[str]:
    return re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


def _make_variables() -> set[str]:
    exported = re.findall(r"^export (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return {name for line in exported for name in line.split()} | {"PYTHON"}
