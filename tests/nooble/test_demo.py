"""``make demo``: what it shows, and that it fails whenever something is not as it should be."""

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import psycopg
import pytest
from django.conf import settings

from apps.core import clock
from apps.core.db import operator_scope
from apps.ledger.records import UsageEvent, record_many
from apps.ledger.types import OperationKind, TokenCounts, TokenType
from apps.tenants.models import Tenant
from nooble import demo, embedded, programs
from nooble.demo import QUESTIONS, Demo, Question
from nooble.demo_client import Client, DemoError
from nooble.demo_statement import Payer, Statement
from nooble.embedded import Engines
from nooble.outputs import FileOutput
from nooble.processes import Supervisor
from tests.conftest import worker_environment
from tests.nooble.commands import Foreground, free_port, make, manage, run
from tests.personas import MakeTenant, Persona

RULE = "Bicycles are parked in the yard behind the kitchen."
WHERE = Question("Where do I park my bicycle?")
#: Their months begin half a day before and after those of UTC.
FAR_ZONES = ("Pacific/Kiritimati", "Pacific/Pago_Pago")


@pytest.fixture(scope="module")
def address(worker: Supervisor) -> Iterator[str]:
    """A web process beside the session's worker."""
    port = free_port()
    output = FileOutput(Path(settings.NOOBLE_DATA_DIR) / "log")
    web = programs.web("127.0.0.1", port)
    web = replace(web, environment={**web.environment, **worker_environment()})
    with Supervisor([[web]], output=output) as supervisor:
        supervisor.wait_until_ready()
        yield f"http://127.0.0.1:{port}"
    output.close()


@dataclass
class Show:
    """A demonstration for a tenant of its own, and the lines that it showed."""

    address: str
    persona: Persona
    folder: Path | None
    lines: list[str]

    @property
    def payer(self) -> Payer:
        return Payer(tenant_id=str(self.persona.tenant.pk), time_zone=self.persona.tenant.time_zone)

    def run(self, *questions: Question) -> list[str]:
        documents = demo.documents_in(self.folder)
        return Demo(
            base_url=self.address,
            key=self.persona.key,
            payer=self.payer,
            documents=documents,
            questions=questions,
            show=self.lines.append,
        ).run()

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def cited(self, question: Question) -> set[str]:
        """The documents that its answer cites."""
        _, _, below = self.text.partition(f". {question.text}\n")
        return set(re.findall(r"↳ (.+?)(?:, page \d+)?: “", below.partition(" tokens in, ")[0]))

    def statement(self) -> Statement:
        with Client(self.address, self.persona.key) as api:
            return Statement.read(api, self.payer)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one document, and what a file manager leaves behind."""
    (tmp_path / "house-rules.md").write_text(RULE)
    (tmp_path / ".DS_Store").write_bytes(b"\0\1")
    return tmp_path


@pytest.fixture
def show(address: str, folder: Path, make_tenant: MakeTenant) -> Callable[..., Show]:
    return lambda **fields: Show(address, make_tenant(**fields), folder, [])


def test_documents_are_quoted_and_the_books_agree(show: Callable[..., Show]) -> None:
    shown = show()
    assert shown.run(WHERE, QUESTIONS[-1]) == []
    assert f'   "{RULE}" [1]' in shown.lines
    assert f"     ↳ house-rules.md: “{RULE}”" in shown.lines
    assert "The books agree: " in shown.text
    assert "Documents (1)" in shown.text


def test_of_all_documents_of_ours_the_samples_answer(address: str, make_tenant: MakeTenant) -> None:
    """The pages of the documentation are handed in, too, and must not be found in their stead."""
    shown = Show(address, make_tenant(), None, [])
    assert shown.run(*QUESTIONS) == []
    *answered, unanswered = map(shown.cited, QUESTIONS)
    samples = {path.name for path in (demo.ROOT / "demo" / "documents").iterdir()}
    assert {name for names in answered for name in names} == samples, shown.text
    assert unanswered == set()
    assert {path.suffix for path in demo.documents_in(None)} >= {".md", ".pdf", ".docx", ".html"}


def test_a_second_showing_uses_what_the_first_has_paid_for(show: Callable[..., Show]) -> None:
    shown = show()
    assert shown.run() == []
    paid = len(shown.statement().entries)
    assert shown.run() == []
    assert len(shown.statement().entries) == paid


def test_a_document_that_has_changed_is_not_confused_with_what_it_was(show: Callable[..., Show], folder: Path) -> None:
    shown = show()
    assert shown.run() == []
    (folder / "house-rules.md").write_text("Bicycles are parked on the roof.")
    assert shown.run(WHERE) == []
    assert "on the roof" in shown.text
    assert "behind the kitchen" not in shown.text


def test_a_document_that_cannot_be_read_is_a_problem(show: Callable[..., Show], folder: Path) -> None:
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 and then nothing of the kind")
    (folder / "empty.txt").touch()
    (folder / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    shown = show()
    problems = shown.run(WHERE)
    assert [problem.split(":")[:2] for problem in problems] == [
        ["broken.pdf", " document_unreadable"],
        ["empty.txt", " empty_document"],
        ["photo.png", " unsupported_media_type"],
    ]
    assert shown.text.count("FAILED: ") == 3
    assert f'   "{RULE}" [1]' in shown.lines


def test_without_any_document_no_question_is_asked(show: Callable[..., Show], folder: Path) -> None:
    (folder / "house-rules.md").write_text("")
    shown = show()
    [problem] = shown.run(WHERE)
    assert problem.startswith("house-rules.md: empty_document: ")
    assert WHERE.text not in shown.text


def test_an_answer_that_cites_nothing_is_a_problem(show: Callable[..., Show]) -> None:
    assert show().run(Question("What does the moon weigh?")) == ["Question 1: the answer cites no document."]


def test_a_run_that_fails_is_a_problem_and_the_others_go_on(show: Callable[..., Show]) -> None:
    shown = show()
    assert shown.run() == []
    with operator_scope("test"):
        Tenant.objects.filter(pk=shown.persona.tenant.pk).update(monthly_token_limit=1)
    problems = shown.run(WHERE, WHERE)
    assert [problem[:30] for problem in problems] == [
        "Question 1: budget_exceeded: T",
        "Question 2: budget_exceeded: T",
    ]
    assert "FAILED: budget_exceeded" in shown.text


def test_the_api_that_is_away_is_said_in_a_sentence(folder: Path) -> None:
    payer = Payer(tenant_id="", time_zone="UTC")
    nobody = f"http://127.0.0.1:{free_port()}"
    documents = demo.documents_in(folder)
    alone = Demo(base_url=nobody, key="none", payer=payer, documents=documents, questions=(), show=lambda _: None)
    with pytest.raises(DemoError, match=r"GET /collections.* was not answered: .*refused"):
        alone.run()


@pytest.mark.parametrize("zone", FAR_ZONES)
def test_the_statement_is_of_the_tenants_own_month(show: Callable[..., Show], zone: str) -> None:
    shown = show(time_zone=zone)
    begins = datetime.combine(clock.today(zone).replace(day=1), datetime.min.time(), tzinfo=ZoneInfo(zone))
    # One of them lies in another month than in UTC, in either zone.
    moments = [begins - timedelta(hours=12), begins - timedelta(seconds=1), begins, begins + timedelta(hours=9)]
    past = [moment for moment in moments if moment <= clock.now()]
    assert begins in past
    record_many(shown.persona.ctx, [reported(moment.astimezone(UTC)) for moment in past])
    statement = shown.statement()
    assert statement.differences() == []
    assert len(statement.entries) == len([moment for moment in past if moment >= begins])


def reported(moment: datetime) -> UsageEvent:
    return UsageEvent(
        idempotency_key=f"at {moment.isoformat()}",
        token_type=TokenType.LLM,
        operation=OperationKind.CHAT,
        provider="elsewhere",
        model="model",
        counts=TokenCounts(fresh_input_tokens=100),
        occurred_at=moment,
    )


def test_what_another_tenant_pays_is_not_in_the_statement() -> None:
    entry = {"payer_tenant_id": "other", "occurred_at": "2026-11-21T12:00:00Z"}
    assert not Payer(tenant_id="own", time_zone="UTC").pays(entry, "2026-11")
    assert Payer(tenant_id="other", time_zone="UTC").pays(entry, "2026-11")


@pytest.mark.parametrize(
    ("make_folder", "complaint"),
    [(lambda path: None, "is not a folder"), (Path.mkdir, "There is no document in"), (Path.touch, "is not a folder")],
    ids=["missing", "empty", "a file"],
)
def test_a_folder_without_documents_is_refused_before_anything_starts(
    database: None, tmp_path: Path, make_folder: Callable[[Path], None], complaint: str
) -> None:
    folder = tmp_path / "handbook"
    make_folder(folder)
    shown = run(manage("demo", "--docs", str(folder)), **worker_environment())
    assert shown.returncode == 1
    [line] = shown.stderr.splitlines()
    assert line.startswith("CommandError: ")
    assert line.endswith(".")
    assert complaint in line
    assert str(folder) in line
    assert shown.stdout == ""


@pytest.fixture
def own_engines() -> Iterator[Path]:
    """A data directory whose engines keep running between two demonstrations."""
    directory = Path(tempfile.mkdtemp(prefix="nooble-test-"))
    with Engines(directory):
        yield directory
    shutil.rmtree(directory)


def test_make_demo_succeeds_and_fails_once_the_books_are_tampered_with(own_engines: Path, folder: Path) -> None:
    command = make("demo", f"DOCS={folder}", f"ASK={WHERE.text}")
    with Foreground(command, NOOBLE_DATA_DIR=str(own_engines)) as good:
        assert good.finish() == 0, good.text
    assert re.search(r"^  ready after \d+\.\d s$", good.text, re.MULTILINE)
    assert re.search(rf"^  █{{{demo.BAR_WIDTH}}} 100%$", good.text, re.MULTILINE)
    assert f"↳ house-rules.md: “{RULE}”" in good.text
    assert "The books agree: " in good.text
    assert re.fullmatch(r"\d+\.\d s in all\n", good.lines[-1])

    with psycopg.connect(embedded.owner_url(own_engines)) as owner:
        owner.execute("ALTER TABLE ledger_usagedaily NO FORCE ROW LEVEL SECURITY")
        changed = owner.execute("UPDATE ledger_usagedaily SET entries = entries + 1 WHERE operation = 'chat'")
        assert changed.rowcount == 1
        owner.execute("ALTER TABLE ledger_usagedaily FORCE ROW LEVEL SECURITY")

    bad = run(command, NOOBLE_DATA_DIR=str(own_engines))
    assert bad.returncode != 0
    assert "DIFFERENCE: entries " in bad.stdout
    assert "The books agree" not in bad.stdout
    assert "The books do not agree." in bad.stderr
    assert "Traceback" not in bad.stderr
