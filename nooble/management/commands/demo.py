import logging
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.tenants import services as tenants
from nooble import programs
from nooble.demo import QUESTIONS, Demo, Question, documents_in
from nooble.demo_client import DemoError
from nooble.demo_statement import Payer
from nooble.outputs import FileOutput
from nooble.processes import ProcessError, termination_as_interrupt

HOST = "127.0.0.1"


class Command(BaseCommand):
    help = (
        "Ingest documents, ask an agent about them, and print the ledger's statement. Fails if a document is not taken "
        "in, an answer cites nothing, or the books disagree."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--docs", type=Path, help="A folder of documents (default: nooble's own and some samples).")
        parser.add_argument("--ask", help="A question about them (default: five about the samples).")

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.monotonic()
        try:
            documents = documents_in(options["docs"])
        except DemoError as error:
            raise CommandError(str(error)) from error
        logging.disable(logging.INFO)  # what is shown is the demonstration; the processes write to their files
        output = FileOutput(settings.NOOBLE_DATA_DIR / "log")
        try:
            with termination_as_interrupt():
                problems = self._show(documents, _questions(options), output)
        except (DemoError, ProcessError) as error:
            raise CommandError(f"{error} The processes' logs are in {output.directory}.") from error
        except KeyboardInterrupt:
            raise CommandError("Stopped.") from None
        finally:
            output.close()
        self.stdout.write(f"{time.monotonic() - started:.1f} s in all")
        if problems:
            raise CommandError("It did not go as it should:\n  " + "\n  ".join(problems))

    def _show(self, documents: Sequence[Path], questions: Sequence[Question], output: FileOutput) -> list[str]:
        port = _free_port()
        self.stdout.write("Starting PostgreSQL, Redis, web, workers and beat …")
        started = time.monotonic()
        with programs.running(output, host=HOST, port=port) as supervisor:
            supervisor.wait_until_ready()
            self.stdout.write(f"  ready after {time.monotonic() - started:.1f} s")
            tenant, key = tenants.demo_key("make demo")
            demo = Demo(
                base_url=f"http://{HOST}:{port}",
                key=key,
                payer=Payer(tenant_id=str(tenant.pk), time_zone=tenant.time_zone),
                documents=documents,
                questions=questions,
                show=self.stdout.write,
            )
            return demo.run()


def _questions(options: dict[str, Any]) -> Sequence[Question]:
    """The one that is asked, or ours about our own documents: nobody else's answer those."""
    if options["ask"]:
        return [Question(options["ask"])]
    return () if options["docs"] else QUESTIONS


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
