"""A file with pages: the answer names the page on which the reader finds what it says."""

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from nooble.processes import Supervisor
from tests.agents.test_facts import ask, check_citation, post, wait_until_ready
from tests.collections import files
from tests.personas import Persona

PAGES = [
    ("Intake", "The intake is cleaned every spring. The trash rack has 40 bars."),
    (
        "Pumps",
        "The station was built in 1931. The main pump, which the engineers of the valley chose after a long winter of "
        "trials beside the frozen river, weighs 612.5 kilograms. Dr. Okafor keeps the papers.",
    ),
    ("Staff", "The night watch is kept by two. In all, 12 people work at the station."),
]


@pytest.fixture
def document(owner: Persona, worker: Supervisor) -> dict[str, Any]:
    """A handbook of three pages that has been read."""
    collection = post(owner, "/collections", {"slug": "station", "name": "Station"})["id"]
    file = SimpleUploadedFile("handbook.pdf", files.pdf(PAGES), "application/pdf")
    path = f"/api/v1/collections/{collection}/documents"
    uploaded = owner.api.post(path, {"file": file}, format="multipart").json()
    wait_until_ready(owner, uploaded["id"])
    shown: dict[str, Any] = owner.api.get(f"/api/v1/documents/{uploaded['id']}").json()
    return shown


@pytest.mark.parametrize(
    ("question", "page", "fact"),
    [
        ("How many bars does the trash rack have?", 1, "The trash rack has 40 bars."),
        ("How many kilograms does the main pump weigh?", 2, "weighs 612.5 kilograms."),
        ("How many people work at the station?", 3, "12 people work at the station."),
    ],
)
def test_an_answer_cites_the_page_that_says_it(
    owner: Persona, document: dict[str, Any], question: str, page: int, fact: str
) -> None:
    body = {"slug": "guide", "name": "Guide", "rag": {"collections": [document["collection_id"]]}}
    agent = post(owner, "/agents", body)["id"]
    run = ask(owner, agent, question)
    assert run["status"] == "succeeded", run["error"]
    [citation] = run["citations"]
    assert (citation["document_id"], citation["document_name"]) == (document["id"], "handbook.pdf")
    assert (citation["page"], document["pages"]) == (page, len(PAGES))
    assert fact in citation["quote"]
    assert fact in run["answer"]
    check_citation(owner, citation)
