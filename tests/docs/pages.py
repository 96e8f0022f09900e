"""The documentation as text: its pages, their headings, links and blocks of code."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_PLANNED = re.compile(r"^## Not yet$", re.MULTILINE)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Page:
    path: Path

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @cached_property
    def text(self) -> str:
        return self.path.read_text()

    @cached_property
    def present(self) -> str:
        """The text without what is planned: up to the heading "Not yet"."""
        return _PLANNED.split(self.text)[0]

    @cached_property
    def prose(self) -> str:
        """The text without its blocks of code."""
        return _FENCE.sub("", self.text)

    def blocks(self, language: str) -> list[str]:
        return [body for kind, body in _FENCE.findall(self.text) if kind == language]

    def code_spans(self) -> list[str]:
        return _CODE.findall(self.prose)

    def anchors(self) -> set[str]:
        """What can stand behind ``#`` in a link to the page, as GitHub makes it of headings."""
        words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(self.prose))
        return {word.strip().replace(" ", "-") for word in words}

    def links(self) -> Iterator[tuple[Path, str]]:
        """The links to files of ours: where each leads, and the anchor there."""
        for target in _LINK.findall(self.prose):
            if "://" not in target:
                file, _, anchor = target.partition("#")
                yield ((self.path.parent / file).resolve() if file else self.path, anchor)


def pages() -> list[Page]:
    """Every page that we write: those at the top, and ``docs``."""
    return [Page(path) for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))]


def page(name: str) -> Page:
    return Page(ROOT / name)
