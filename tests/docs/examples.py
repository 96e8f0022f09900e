"""The examples of the API's page: what goes in, as shell commands; what comes out, as JSON that may be shortened.

``…`` stands for what was left out: members of an object, items of a list, the end of a text, or a whole value.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.api import openapi
from tests.api.openapi import Operation
from tests.docs.pages import Page

CUT = "…"
#: A text of JSON, or a sign outside of texts that opens, closes, or was cut.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}…]')
_SECTION = re.compile(r"^##+ (.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^```(json|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ENDPOINT = re.compile(r"`([A-Z]+) (/[^`]*)`")
#: Where a call begins; it ends where the next one does, or its block.
_COMMAND = re.compile(r"^(?=api )", re.MULTILINE)
_VARIABLE = re.compile(r"\$\w+")


@dataclass(frozen=True)
class Answer:
    """A block of JSON, under the operations that its heading names."""

    section: str
    text: str

    def __str__(self) -> str:
        return f"{self.section}: {self.text[:40]}"

    @cached_property
    def value(self) -> Any:
        return json.loads(_whole(self.text))

    def schemas(self) -> list[Mapping[str, Any]]:
        """What it may be: a problem, or what one of the section's operations answers, or one item of a list of that."""
        if isinstance(self.value, dict) and str(self.value.get("type", "")).startswith("/errors/"):
            return [{"$ref": "#/components/schemas/Problem"}]
        answered = [schema for operation in operations(self.section) for schema in _answered(operation)]
        return [*answered, *filter(None, map(_item, answered))]


@dataclass(frozen=True)
class Request:
    """A command of the shell that calls the API."""

    section: str
    command: str

    def __str__(self) -> str:
        return f"{self.section}: {self.command[:40]}"

    @cached_property
    def words(self) -> list[str]:
        return shlex.split(self.command)

    @property
    def body(self) -> Any:
        bodies = self._options("-d")
        return json.loads(_VARIABLE.sub("01a1fdf7-f237-7000-8000-000000000000", bodies[0])) if bodies else None

    @property
    def headers(self) -> set[str]:
        return {header.partition(":")[0] for header in self._options("-H")}

    @property
    def query(self) -> set[str]:
        return set(re.findall(r"[?&](\w+)=", self.words[1]))

    @property
    def operation(self) -> Operation:
        """The one that it calls; KeyError when there is none."""
        [method] = self._options("-X") or ["POST" if self.body is not None else "GET"]
        return _operations()[method, _VARIABLE.sub("{}", self.words[1].partition("?")[0])]

    def _options(self, name: str) -> list[str]:
        return [value for option, value in zip(self.words, self.words[1:], strict=False) if option == name]


def answers(page: Page) -> list[Answer]:
    return [Answer(section, text) for section, kind, text in _blocks(page) if kind == "json"]


def requests(page: Page) -> list[Request]:
    return [
        Request(section, command)
        for section, kind, text in _blocks(page)
        if kind == "sh"
        for command in _COMMAND.split(text)
        if _COMMAND.match(command)
    ]


def operations(section: str) -> list[Operation]:
    """The operations that a heading names."""
    return [_operations()[method, re.sub(r"{\w+}", "{}", path)] for method, path in _ENDPOINT.findall(section)]


def differences(value: Any, schema: Mapping[str, Any], place: str = "$") -> list[str]:
    """In what a shortened example does not agree with a schema: members too many or too few, and wrong values."""
    if value == CUT or (value is None and schema.get("nullable")):
        return []
    for part in schema.get("allOf", ()):
        schema = {**schema, **part}
    schema = openapi.resolve(schema)
    if isinstance(value, dict) and "properties" in schema:
        return _members(value, schema, place)
    if isinstance(value, list) and "items" in schema:
        return [text for item in value for text in differences(item, schema["items"], f"{place}[]")]
    return _leaf(value, schema, place)


def _members(value: Mapping[str, Any], schema: Mapping[str, Any], place: str) -> list[str]:
    known, given = schema["properties"], value.keys() - {CUT}
    missing = set() if CUT in value else set(schema.get("required", ())) - given
    found = [f"{place}.{name} is missing" for name in sorted(missing)]
    found += [f"{place}.{name} is not answered" for name in sorted(given - known.keys())]
    both = sorted(given & known.keys())
    return found + [text for name in both for text in differences(value[name], known[name], f"{place}.{name}")]


def _leaf(value: Any, schema: Mapping[str, Any], place: str) -> list[str]:
    # What is left of a text that was cut is no id, date or address.
    cut = CUT in json.dumps(value, ensure_ascii=False)
    try:
        assert openapi.differences(value, {"type": schema["type"]} if cut and "type" in schema else schema) == []
    except AssertionError as error:
        return [f"{place}: {error}"]
    return []


def _whole(text: str) -> str:
    """Shortened JSON as JSON: what was cut out of an object is a member named so, of a list an item."""
    places: list[str] = []

    def token(found: re.Match[str]) -> str:
        sign = found[0]
        if sign in "[{":
            places.append(sign)
        elif sign in "]}":
            places.pop()
        elif sign == CUT:
            return f'"{CUT}"' if places[-1] == "[" else f'"{CUT}": null'
        return sign

    return _TOKEN.sub(token, text)


def _blocks(page: Page) -> Iterator[tuple[str, str, str]]:
    """Section, language and text of each block."""
    titles = [(found.start(), found[1]) for found in _SECTION.finditer(page.text)]
    for block in _BLOCK.finditer(page.text):
        above = [title for start, title in titles if start < block.start()]
        yield above[-1] if above else "", block[1], block[2]


def _operations() -> dict[tuple[str, str], Operation]:
    """Every operation, by its method and its path without names of parameters."""
    found = {}
    for operation in openapi.operations():
        path = re.sub(r"{\w+}", "{}", operation.path.removeprefix("/api/v1"))
        found[operation.method.upper(), path] = operation
    return found


def _answered(operation: Operation) -> list[Mapping[str, Any]]:
    said = [answer for status, answer in operation.spec["responses"].items() if status < "300"]
    return [content["schema"] for answer in said for content in answer.get("content", {}).values()]


def _item(schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a page of a list has many of."""
    results = openapi.resolve(schema).get("properties", {}).get("results", {})
    items: Mapping[str, Any] | None = results.get("items")
    return items
