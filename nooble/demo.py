"""The main job, shown: documents go in, an agent answers about them, and the ledger accounts for every token.

It is a client like any other: everything goes through the HTTP API of real processes.
"""

import hashlib
import mimetypes
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nooble.demo_client import Client, DemoError, RefusedError
from nooble.demo_statement import Payer, Statement

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Question:
    """A question, and whether the documents answer it: then the answer has to cite them."""

    text: str
    has_answer: bool = True


QUESTIONS = (
    Question("How much is reimbursed for a hotel room per night?"),
    Question("When are invoices due?"),
    Question("How many requests per minute does the API accept?"),
    Question("When is the endpoint /v2/vessels switched off?"),
    Question("What does Harbour pay towards parental leave?", has_answer=False),
)
BAR_WIDTH = 30
POLL_SECONDS = 0.2
#: A document that takes longer has failed, whatever its status says.
INGESTION_SECONDS = 600
WAIT_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What is shown: which documents, which questions, and where the lines go."""

    base_url: str
    key: str
    payer: Payer
    documents: Sequence[Path]
    questions: Sequence[Question]
    show: Callable[[str], None]

    def run(self) -> list[str]:
        """Show it; returns what went wrong, which is nothing. Raises DemoError when it cannot go on."""
        with Client(self.base_url, self.key) as api:
            collection = self._made(api, "/collections")
            documents = self._ingest(api, collection)
            problems = [f"{document['name']}: {_reason(document)}" for document in documents if _has_failed(document)]
            if len(problems) < len(documents):
                problems += self._converse(api, collection)
            statement = Statement.read(api, self.payer)
        statement.show(self.show)
        return problems + (["The books do not agree."] if statement.differences() else [])

    def _made(self, api: Client, path: str, **fields: Any) -> str:
        """The id of the demonstration's collection or agent, which is made unless an earlier run has."""
        body = {"slug": self._slug(), "name": "Demonstration", **fields}
        return str((api.find(path, self._slug()) or api.post(path, json=body))["id"])

    def _slug(self) -> str:
        """One collection for each state of a set of documents, so that questions are about these and no others."""
        digest = hashlib.sha256()
        for path in self.documents:
            digest.update(f"{path.resolve()}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        return f"demo-{digest.hexdigest()[:12]}"

    def _ingest(self, api: Client, collection: str) -> list[dict[str, Any]]:
        """Hand the documents in and return them when all are ready or have failed."""
        self.show(f"\nDocuments ({len(self.documents)})")
        uploaded = [self._upload(api, collection, path) for path in self.documents]
        waiting = {document["id"]: document for document in uploaded}
        deadline = time.monotonic() + INGESTION_SECONDS
        while self._draw(list(waiting.values())):
            if time.monotonic() > deadline:
                raise DemoError("The documents were not ready in time.")
            time.sleep(POLL_SECONDS)
            for identifier in [known for known, document in waiting.items() if not _is_finished(document)]:
                waiting[identifier] = api.get(f"/documents/{identifier}")
        self._report(list(waiting.values()))
        return list(waiting.values())

    def _upload(self, api: Client, collection: str, path: Path) -> dict[str, Any]:
        """The document; of one that is refused what it would be if it had failed later."""
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        try:
            return api.post(
                f"/collections/{collection}/documents", files={"file": (path.name, path.read_bytes(), kind)}
            )
        except RefusedError as refused:
            error = {"code": refused.code, "detail": refused.detail}
            return {"id": str(path), "name": path.name, "status": "failed", "error": error}

    def _draw(self, documents: Sequence[dict[str, Any]]) -> bool:
        """Show how far they are; returns whether there is something to wait for."""
        done = sum(1 if _is_finished(document) else document["progress"] for document in documents)
        share = done / len(documents)
        bar = "█" * round(BAR_WIDTH * share)
        if sys.stdout.isatty():
            sys.stdout.write(f"\r  {bar:·<{BAR_WIDTH}} {share:4.0%}")
            sys.stdout.flush()
        return not all(map(_is_finished, documents))

    def _report(self, documents: Sequence[dict[str, Any]]) -> None:
        if sys.stdout.isatty():
            sys.stdout.write("\r" + " " * (BAR_WIDTH + 8) + "\r")
        for document in documents:
            self.show(f"  {document['name']:<42} {_outcome(document)}")

    def _converse(self, api: Client, collection: str) -> list[str]:
        """Put the questions; returns what was wrong with the answers."""
        if not self.questions:
            self.show('\nNo question was asked. Ask one with ASK="…" (--ask).')
            return []
        agent = self._made(api, "/agents", rag={"collections": [collection]})
        problems = [self._ask(api, agent, number, each) for number, each in enumerate(self.questions, start=1)]
        return [f"Question {number}: {problem}" for number, problem in enumerate(problems, start=1) if problem]

    def _ask(self, api: Client, agent: str, number: int, question: Question) -> str:
        """Put one question and show the answer; returns what is wrong with it, if anything."""
        self.show(f"\n{number}. {question.text}")
        body = {"agent_id": agent, "message": question.text}
        try:
            run = api.post("/chat", json=body, headers={"Prefer": f"wait={WAIT_SECONDS}"})
        except RefusedError as refused:
            return self._failed(str(refused))
        if run["status"] == "failed":
            return self._failed(_reason(run))
        if run["status"] != "succeeded":
            return self._failed(f"its run is {run['status']} after {WAIT_SECONDS} seconds.")
        self._show_answer(run)
        return "the answer cites no document." if question.has_answer and not run["citations"] else ""

    def _failed(self, reason: str) -> str:
        self.show(f"   FAILED: {reason}")
        return reason

    def _show_answer(self, run: dict[str, Any]) -> None:
        self.show(f"   {run['answer']}")
        for citation in run["citations"]:
            page = f", page {citation['page']}" if citation["page"] else ""
            self.show(f"     ↳ {citation['document_name']}{page}: “{_shortened(citation['quote'])}”")
        usage = run["usage"]
        self.show(
            f"   {usage['input_tokens']} tokens in, {usage['output_tokens']} out, {usage['embedding_tokens']} to embed "
            f"the question; {run['timings_ms']['total']} ms"
        )


def documents_in(folder: Path | None) -> list[Path]:
    """The files of a folder, or nooble's own documents; raises DemoError. Hidden files are nobody's documents."""
    if folder is None:
        own = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
        return own + sorted(path for path in (ROOT / "demo" / "documents").iterdir() if path.is_file())
    with suppress(RuntimeError):  # there is no such home
        folder = folder.expanduser()  # not every shell does it after “DOCS=”
    if not folder.is_dir():
        raise DemoError(f"{folder} is not a folder.")
    found = sorted(_visible_files(folder))
    if not found:
        raise DemoError(f"There is no document in {folder}.")
    for path in found:
        if not os.access(path, os.R_OK):
            raise DemoError(f"{path} cannot be read.")
    return found


def _visible_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _is_finished(document: dict[str, Any]) -> bool:
    return document["status"] in {"ready", "failed"}


def _has_failed(document: dict[str, Any]) -> bool:
    return bool(document["status"] == "failed")


def _reason(failed: dict[str, Any]) -> str:
    """Why a document or a run has failed."""
    return f"{failed['error']['code']}: {failed['error']['detail']}"


def _outcome(document: dict[str, Any]) -> str:
    if _has_failed(document):
        return f"FAILED: {_reason(document)}"
    pages = f", {document['pages']} pages" if document["pages"] else ""
    return f"{document['chunks']} chunks, {document['tokens']} tokens{pages}"


def _shortened(text: str, most: int = 110) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"
