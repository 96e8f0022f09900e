"""Files of every kind, good and bad, through the real parser in its real process."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.collections import file_types, parsing
from apps.collections.errors import (
    DocumentEncryptedError,
    DocumentTooComplexError,
    DocumentUnreadableError,
    EmptyDocumentError,
    NotTextError,
)
from apps.collections.file_types import SUPPORTED
from apps.collections.parsing import Page, parse
from apps.collections.sandbox import Limits
from apps.core.errors import NoobleError, TooLargeError, UnsupportedMediaTypeError
from tests.collections import files

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
DEMO = Path(__file__).parents[2] / "demo" / "documents"
GARBAGE = random.Random(7).randbytes(4_000)

LIST = [["Plan", "Price"], ["Team", "490"], ["Fleet", "1900"]]


def text_of(data: bytes, name: str) -> str:
    return "\n\n".join(page.text for page in parse(data, name=name).pages)


# --- what is read


def test_a_pdf_has_its_pages_with_their_numbers_and_headings() -> None:
    document = parse(
        files.pdf([("Fees", "The Team plan costs 490."), ("Support", "Call us."), ("", "The end.")], title="Contract"),
        name="contract.pdf",
    )

    assert document.content_type == "application/pdf"
    assert document.title == "Contract"
    assert document.page_count == 3
    assert document.pages == (
        Page(number=1, text="# Fees\n\nThe Team plan costs 490."),
        Page(number=2, text="# Support\n\nCall us."),
        Page(number=3, text="The end."),
    )


def test_a_blank_page_keeps_its_number() -> None:
    document = parse(files.pdf([("", "One."), ("", " "), ("", "Three.")]), name="a.pdf")

    assert [(page.number, page.text) for page in document.pages] == [(1, "One."), (2, ""), (3, "Three.")]


def test_a_pdf_that_only_its_owner_may_change_can_be_read() -> None:
    assert "behind the map" in text_of(files.encrypted_pdf(password=""), "a.pdf")


def test_a_word_document_is_one_text_without_pages() -> None:
    data = files.word([(1, "1. Hotels"), (0, "Up to 170 EUR & more: C:\\hotels_x #1 <b>.")], title="Travel")
    document = parse(data, name="travel.docx")

    assert document.content_type == WORD
    assert document.title == "Travel"
    assert document.page_count is None
    assert document.pages == (Page(number=None, text="# 1. Hotels\n\nUp to 170 EUR & more: C:\\hotels_x #1 <b>."),)


def test_slides_are_pages_and_their_notes_are_read() -> None:
    data = files.slides([("Roadmap", "Exports first."), ("Pricing", "Then prices.")], notes="Say it slowly.")

    assert [(page.number, page.text) for page in parse(data, name="talk.pptx").pages] == [
        (1, "## Roadmap\n\nExports first.\n\nSay it slowly."),
        (2, "## Pricing\n\nThen prices."),
    ]


def test_sheets_are_tables_under_their_names() -> None:
    text = text_of(files.sheets({"Plans": LIST, "Regions": [["EU"], ["Rotterdam"]]}), "plans.xlsx")

    assert text.index("## Plans") < text.index("| Team | 490 |") < text.index("## Regions") < text.index("Rotterdam")


def test_a_large_and_repetitive_sheet_is_no_bomb() -> None:
    assert text_of(files.sheets({"Log": [["open", "closed", "n/a"]] * 20_000}), "log.xlsx").count("closed") == 20_000


def test_a_web_page_is_read_without_its_navigation_and_its_embedded_pictures() -> None:
    page = """<!DOCTYPE html><html><head><title>Help &amp; answers</title><style>p {}</style></head><body>
    <nav>Home</nav><header><h1>Help</h1></header><p>Ask <b>us</b> at a?b=1&amp;c=2.</p><script>run()</script>
    <img alt="our harbour" src="data:image/png;base64,AAAABBBB"><pre># no heading</pre></body></html>"""
    document = parse(page.encode(), name="help.html")

    assert document.title == "Help & answers"
    assert document.pages[0].text.startswith("# Help\n\nAsk **us** at a?b=1&c=2.")
    assert "our harbour" in document.pages[0].text
    for unwanted in ("Home", "run()", "p {}", "AAAA", "title:"):
        assert unwanted not in document.pages[0].text


def test_a_web_page_may_say_what_its_encoding_is() -> None:
    page = '<html><head><meta charset="iso-8859-2"><title>Żółw</title></head><body><p>Zażółć gęślą jaźń</p>'
    document = parse(page.encode("iso-8859-2"), name="page.html")

    assert (document.title, document.pages[0].text) == ("Żółw", "Zażółć gęślą jaźń")


def test_a_message_is_read_with_its_subject() -> None:
    document = parse(files.email("Größe", "Der Kran ist zu groß."), name="mail.eml")

    assert document.title == "Größe"
    assert "Der Kran ist zu groß." in document.pages[0].text


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.csv", "a.json", "a.log", "a.py", "README", "a.unknown"])
def test_text_of_any_name_is_read_as_it_is(name: str) -> None:
    assert text_of(b"key_1,\\*value*\n# two", name) == "key_1,\\*value*\n# two"


@pytest.mark.parametrize(
    "data",
    [
        "Größe: 5 µm".encode(),
        "\ufeffGröße: 5 µm".encode(),
        "Größe: 5 µm".encode("utf-16"),
        b"\xfe\xff" + "Größe: 5 µm".encode("utf-16-be"),
        "Größe: 5 µm".encode("latin-1"),
    ],
)
def test_text_is_read_in_the_encodings_that_people_use(data: bytes) -> None:
    assert text_of(data, "a.txt") == "Größe: 5 µm"


def test_a_broken_byte_does_not_turn_the_whole_text_into_another_encoding() -> None:
    assert text_of("Größe, Maß, Höhe und Länge, süß".encode() + b"\xff", "a.txt").startswith("Größe, Maß, Höhe")


def test_a_few_nul_bytes_in_a_text_are_left_out() -> None:
    assert text_of(b"crashed here\0\n" + b"and went on\n" * 20, "a.log").startswith("crashed here\nand went on")


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        (
            "service-agreement.pdf",
            "Invoices are issued on the first working day of the month and are due within 30 days.",
        ),
        ("travel-and-expense-policy.docx", "Hotel rooms are reimbursed up to EUR 170 per night including breakfast."),
        ("support-faq.html", "The API accepts 600 requests per minute and API key."),
        ("release-notes.md", "The endpoint `/v2/vessels` is switched off on 30 September 2025."),
    ],
)
def test_the_documents_of_the_demo_are_read(name: str, fact: str) -> None:
    assert fact in text_of((DEMO / name).read_bytes(), name)


# --- how the type is told


def test_content_decides_before_the_name_and_the_client() -> None:
    paper = files.pdf([("", "Paper.")])

    assert parse(paper, name="a.txt", content_type="text/plain").content_type == "application/pdf"
    assert parse(files.word([(0, "Word.")]), name="a.xlsx", content_type="application/pdf").content_type == WORD
    assert parse(b"<!doctype HTML><p>Web", name="a.txt").content_type == "text/html"


def test_the_name_decides_before_the_client() -> None:
    assert parse(b"# Hello", name="a.md", content_type="application/pdf").content_type == "text/markdown"


def test_the_client_decides_where_the_name_says_nothing() -> None:
    assert parse(b"# Hello", name="notes", content_type="text/markdown; charset=utf-8").content_type == "text/markdown"


def test_a_document_with_a_sheet_in_it_is_a_document() -> None:
    sheet = files.sheets({"A": LIST})
    data = files.archive({"word/document.xml": b"<x/>", "word/embeddings/a.xlsx": sheet}, compression=0)

    assert file_types.detect(data, name="a.xlsx", content_type=None).content_type == WORD


def test_the_supported_types_are_told_apart_by_their_endings() -> None:
    endings = [ending for kind in SUPPORTED for ending in kind.extensions]

    assert len(endings) == len(set(endings))


# --- what is refused


@pytest.mark.parametrize(
    ("data", "name", "error"),
    [
        (b"", "a.txt", EmptyDocumentError),
        (b" \n\t\n", "a.md", EmptyDocumentError),
        ("\u200b\u2060\n\0".encode(), "a.md", NotTextError),
        ("\u200b\u2060\n".encode(), "a.md", EmptyDocumentError),
        (b"<html><body></body></html>", "a.html", EmptyDocumentError),
        (files.pdf([("", " ")]), "scan.pdf", EmptyDocumentError),
        (GARBAGE, "a.txt", NotTextError),
        (GARBAGE, "a.html", NotTextError),
        (bytes(5_000), "a.csv", NotTextError),
        ("Правила командировок".encode("cp1251"), "a.txt", NotTextError),
        (GARBAGE, "a.png", UnsupportedMediaTypeError),
        (GARBAGE, "a", UnsupportedMediaTypeError),
        (files.archive({"a.txt": "text"}), "a.zip", UnsupportedMediaTypeError),
        (files.OLE + GARBAGE, "a.doc", UnsupportedMediaTypeError),
        (b"{\\rtf1 Hello}", "a.rtf", UnsupportedMediaTypeError),
        (b"This is no PDF.", "a.pdf", DocumentUnreadableError),
        (b"%PDF-1.7\n" + GARBAGE, "a.pdf", DocumentUnreadableError),
        (files.pdf([("", "Cut off.")])[:250], "a.pdf", DocumentUnreadableError),
        (b"PK\x03\x04" + GARBAGE, "a.docx", DocumentUnreadableError),
        (files.word([(0, "Cut off.")])[:20_000], "a.docx", DocumentUnreadableError),
        (files.encrypted_pdf(password="secret"), "a.pdf", DocumentEncryptedError),
        (files.OLE + GARBAGE + "EncryptedPackage".encode("utf-16-le"), "a.docx", DocumentEncryptedError),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_reason(
    data: bytes, name: str, error: type[NoobleError]
) -> None:
    with pytest.raises(NoobleError) as caught:
        parse(data, name=name)

    assert type(caught.value) is error
    assert caught.value.detail != error.title(), "the detail says what to do"


@settings(deadline=None)
@given(st.binary(max_size=500), st.sampled_from(["a.txt", "a.csv", "a", "a.docx", "a.pdf", "a.png"]))
def test_any_bytes_are_read_or_refused(data: bytes, name: str) -> None:
    try:
        document = parse(data, name=name)
    except NoobleError:
        return
    assert all("\0" not in page.text for page in document.pages)
    assert any(page.text for page in document.pages)


def test_a_text_of_too_many_characters_is_refused() -> None:
    with pytest.raises(TooLargeError):
        parse(b"a\n" * (parsing.MAX_DOCUMENT_CHARACTERS // 2 + 1), name="a.txt")


def test_a_document_of_too_many_characters_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "MAX_DOCUMENT_CHARACTERS", 10)

    with pytest.raises(TooLargeError):
        parse(files.pdf([("", "More than ten.")]), name="a.pdf")


# --- what is malicious


def test_a_document_that_unpacks_to_hundreds_of_megabytes_is_refused() -> None:
    paragraph = b"<w:p><w:r><w:t>" + b"a" * 1_000_000 + b"</w:t></w:r></w:p>"

    with pytest.raises(DocumentTooComplexError):
        parse(files.word_of([paragraph] * 150), name="a.docx")


def test_a_document_that_needs_more_memory_than_allowed_is_refused() -> None:
    many = files.word_of([b"<w:p><w:r><w:t>hello</w:t></w:r></w:p>" * 10_000] * 30)

    with pytest.raises(DocumentTooComplexError):
        parse(many, name="a.docx", limits=Limits(memory_bytes=300 * 1024**2))


def test_entities_that_multiply_are_not_expanded() -> None:
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    page = f'<!DOCTYPE html [<!ENTITY a0 "ha">{entities}]><html><body><p>&a9; over</p></body></html>'

    assert len(text_of(page.encode(), "a.html")) < 10_000


@pytest.mark.parametrize("tag", ["<div>", "<ul><li>", "<blockquote>", "<table><tr><td>", "<b><p>"])
def test_tags_nested_very_deep_do_not_crash_anything(tag: str) -> None:
    try:
        document = parse(b"<html><p>start</p>" + tag.encode() * 20_000 + b"end", name="a.html")
    except (EmptyDocumentError, DocumentUnreadableError):
        return
    assert "start" in document.pages[0].text
