import logging
import socket
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.tenants import services as tenants
from nooble import programs
from nooble.demo import QUESTIONS, Demo, DemoError, documents_in
from nooble.outputs import FileOutput
from nooble.processes import ProcessError, termination_as_interrupt

HOST = "127.0.0.1"


class Command(BaseCommand):
    help = "Ingest documents, ask an agent about them, and print the ledger's statement. Fails if the books disagree."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--docs", type=Path, help="A folder of documents (default: nooble's own and some samples).")
        parser.add_argument("--ask", help="A question about them (default: five that the samples answer, or do not).")

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.monotonic()
        logging.disable(logging.INFO)  # what is shown is the demonstration; the processes write to their files
        output = FileOutput(settings.NOOBLE_DATA_DIR / "log")
        try:
            with termination_as_interrupt():
                differences = self._show(options, output)
        except (DemoError, ProcessError) as error:
            raise CommandError(f"{error} The processes' logs are in {output.directory}.") from error
        except KeyboardInterrupt:
            raise CommandError("Stopped.") from None
        finally:
            output.close()
        self.stdout.write(f"{time.monotonic() - started:.1f} s in all")
        if differences:
            raise CommandError("The books do not agree.")

    def _show(self, options: dict[str, Any], output: FileOutput) -> list[str]:
        documents = documents_in(options["docs"])
        port = _free_port()
        self.stdout.write("Starting PostgreSQL, Redis, web, workers and beat …")
        started = time.monotonic()
        with programs.running(output, host=HOST, port=port) as supervisor:
            supervisor.wait_until_ready()
            self.stdout.write(f"  ready after {time.monotonic() - started:.1f} s")
            _, key = tenants.demo_key("make demo")
            demo = Demo(
                base_url=f"http://{HOST}:{port}",
                key=key,
                documents=documents,
                questions=[options["ask"]] if options["ask"] else QUESTIONS,
                show=self.stdout.write,
            )
            return demo.run()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
