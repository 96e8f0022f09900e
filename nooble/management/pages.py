"""Pages of the documentation that are written from what the code itself declares."""

from pathlib import Path
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandError, CommandParser

from settings.variables import ROOT

DOCS = ROOT / "docs"


class PageCommand(BaseCommand):
    """Writes one page of ``docs/``; with ``--check`` it writes nothing and fails if the page is out of step."""

    requires_system_checks = ()
    page: ClassVar[Path]

    def content(self) -> str:
        """What the page has to say."""
        raise NotImplementedError

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="Write nothing; fail if the page is out of step.")

    def handle(self, *_: Any, check: bool, **__: Any) -> None:
        content = self.content()
        if not check:
            self.page.write_text(content)
        elif not self.page.exists() or self.page.read_text() != content:
            command = type(self).__module__.rpartition(".")[2]
            raise CommandError(f"{self.page.name} is out of step: run `python manage.py {command}`.")
