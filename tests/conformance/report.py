"""The conformance suite as a table: what is expected of providers, and how each of them does.

A plugin of pytest (``make conformance``). A row is a test, a group of rows a file of tests, a column a provider; all
that is written here the suite says itself. Tests that are not put to one provider after the other, because they
are about what one of them does alone or about the suite, have the column ``alone``.
"""

from collections.abc import Iterable, Iterator
from typing import Any, cast

import pytest

from apps.providers.catalog import PROVIDERS, ProviderSpec
from tests.conformance.subjects import SUBJECTS, Subject

ALONE = "alone"
COLUMNS = (*(subject.name for subject in SUBJECTS), ALONE)
#: From what decides to what does not.
OUTCOMES = ("FAILED", "skipped", "ok")
NOTHING = "n/a"

#: By group and behaviour: the outcomes of each column, in the order in which the tests were collected.
_Table = dict[str, dict[str, dict[str, list[str]]]]
#: The group, the behaviour and the columns of a test.
_Place = tuple[str, str, list[str]]
_table = pytest.StashKey[_Table]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_table] = {}
    config.pluginmanager.register(_Recorder(config.stash[_table]))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        item.user_properties.append(("conformance", (_group(item), _behaviour(item), _columns(item))))
        config.stash[_table].setdefault(_group(item), {}).setdefault(_behaviour(item), {})


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    terminalreporter.write_line("")
    for line in _lines(config.stash[_table]):
        terminalreporter.write_line(line)


class _Recorder:
    def __init__(self, table: _Table) -> None:
        self._table = table

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test is reported in three phases; setting up and cleaning up are worth a word only when they fail."""
        if report.when == "call" or not report.passed:
            group, behaviour, columns = cast("_Place", dict(report.user_properties)["conformance"])
            outcome = {"passed": "ok", "failed": "FAILED"}.get(report.outcome, "skipped")
            for column in columns:
                self._table[group][behaviour].setdefault(column, []).append(outcome)


def _group(item: pytest.Item) -> str:
    return (getattr(item, "module").__doc__ or item.path.stem).splitlines()[0]  # noqa: B009 - not every item has one


def _behaviour(item: pytest.Item) -> str:
    return getattr(item, "originalname", item.name).removeprefix("test_").replace("_", " ")


def _columns(item: pytest.Item) -> list[str]:
    """The providers that the test is put to: what it is parametrised with says so."""
    callspec = getattr(item, "callspec", None)
    values = _flat(callspec.params.values()) if callspec else ()
    return sorted({name for value in values if (name := _name(value))}) or [ALONE]


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        yield from value if isinstance(value, tuple) else (value,)


def _name(value: Any) -> str:
    if isinstance(value, Subject | ProviderSpec):
        return value.name
    return value if isinstance(value, str) and value in PROVIDERS else ""


def _lines(table: _Table) -> Iterator[str]:
    widths = {column: max(len(column), len("FAILED")) + 2 for column in COLUMNS}
    yield "".join(f"{column:<{width}}" for column, width in widths.items()) + "behaviour"
    for group, behaviours in table.items():
        yield f"\n{group}"
        for behaviour, told in behaviours.items():
            yield "".join(f"{_worst(told.get(column)):<{width}}" for column, width in widths.items()) + behaviour
    yield f"\n{_sum(table)}"


def _worst(outcomes: list[str] | None) -> str:
    return min(outcomes, key=OUTCOMES.index) if outcomes else NOTHING


def _sum(table: _Table) -> str:
    cells = [outcomes for behaviours in table.values() for told in behaviours.values() for outcomes in told.values()]
    failed = sum(_worst(outcomes) == "FAILED" for outcomes in cells)
    tests = sum(map(len, cells))
    return f"{failed or 'none'} of {len(cells)} cells FAILED; {tests} tests, {len(SUBJECTS)} subjects."
