"""Files to parse, made at run time: well-formed ones, broken ones and malicious ones."""

import io
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from email.message import EmailMessage
from email.policy import SMTP
from xml.sax.saxutils import escape

import docx
import pypdf
from fpdf import FPDF

OLE = bytes.fromhex("d0cf11e0a1b11ae1")

_TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
_RELATIONSHIPS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_MAIN = "application/vnd.openxmlformats-officedocument"
_DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"
_SLIDES = "http://schemas.openxmlformats.org/presentationml/2006/main"
_SHEETS = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_WORDS = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def pdf(pages: Sequence[tuple[str, str]], *, title: str = "") -> bytes:
    """A PDF with one page per (heading, body); a heading may be empty."""
    paper = FPDF()
    paper.set_title(title)
    for heading, body in pages:
        paper.add_page()
        if heading:
            paper.set_font("Helvetica", "B", 18)
            paper.multi_cell(0, 10, heading, new_x="LMARGIN", new_y="NEXT")
        paper.set_font("Helvetica", size=11)
        paper.multi_cell(0, 6, body, align="L")
    return bytes(paper.output())


def encrypted_pdf(*, password: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf([("Secret", "The vault is behind the map.")])))
    writer.encrypt(password, "owner", algorithm="RC4-128")
    output = io.BytesIO()
    writer.write(output)
    return output.getvalue()


def bare_pdf(content: bytes) -> bytes:
    """A PDF of one page with this content stream, compressed."""
    stream = zlib.compress(content)
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count 1/Kids[4 0 R]>>",
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>>>/Contents 5 0 R>>",
        b"<</Length %d/Filter/FlateDecode>>stream\n" % len(stream) + stream + b"\nendstream",
    ]
    data, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj" % number + body + b"endobj\n"
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % len(data)
    return data + b"xref\n0 6\n0000000000 65535 f \n" + table + trailer


def word(blocks: Iterable[tuple[int, str]], *, title: str = "") -> bytes:
    """A DOCX of (level, text); level 0 is a paragraph, 1 and more a heading."""
    document = docx.Document()
    document.core_properties.title = title
    for level, text in blocks:
        if level:
            document.add_heading(text, level)
        else:
            document.add_paragraph(text)
    output = io.BytesIO()
    document.save(output)
    return output.getvalue()


def word_of(body: Iterable[bytes]) -> bytes:
    """A DOCX with this XML as its body, however large."""
    start = f'<?xml version="1.0"?><w:document xmlns:w="{_WORDS}"><w:body>'.encode()
    main = b"".join([start, *body, b"</w:body></w:document>"])
    return _package("word/document.xml", "wordprocessingml.document.main", {"word/document.xml": main})


def slides(pages: Sequence[tuple[str, str]], *, notes: str = "") -> bytes:
    """A PPTX of (title, body), with the speaker's notes on the first slide."""
    numbers = range(1, len(pages) + 1)
    ids = "".join(f'<p:sldId id="{255 + number}" r:id="rId{number}"/>' for number in numbers)
    files = {
        "ppt/presentation.xml": f'<p:presentation xmlns:p="{_SLIDES}" xmlns:r="{_OFFICE}">'
        f"<p:sldIdLst>{ids}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": _links("slide", [f"slides/slide{number}.xml" for number in numbers]),
        **{f"ppt/slides/slide{number}.xml": _slide("sld", *page) for number, page in enumerate(pages, 1)},
        "ppt/slides/_rels/slide1.xml.rels": _links("notesSlide", ["../notesSlides/notesSlide1.xml"]),
        "ppt/notesSlides/notesSlide1.xml": _slide("notes", "", notes),
    }
    return _package("ppt/presentation.xml", "presentationml.presentation.main", files)


def sheets(tables: Mapping[str, Sequence[Sequence[str]]]) -> bytes:
    """An XLSX of named sheets with rows of texts."""
    names = "".join(
        f'<sheet name="{name}" sheetId="{number}" r:id="rId{number}"/>' for number, name in enumerate(tables, 1)
    )
    files = {
        "xl/workbook.xml": f'<workbook xmlns="{_SHEETS}" xmlns:r="{_OFFICE}"><sheets>{names}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": _links("worksheet", [f"worksheets/{i}.xml" for i in range(1, len(tables) + 1)]),
        **{f"xl/worksheets/{number}.xml": _sheet(rows) for number, rows in enumerate(tables.values(), 1)},
    }
    return _package("xl/workbook.xml", "spreadsheetml.sheet.main", files)


def email(subject: str, text: str) -> bytes:
    message = EmailMessage(policy=SMTP)
    message["Subject"] = subject
    message["From"] = "ops@harbour.example"
    message.set_content(text, cte="base64")
    return message.as_bytes()


def archive(files: Mapping[str, str | bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", compression) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return output.getvalue()


def _package(main: str, kind: str, files: Mapping[str, str | bytes]) -> bytes:
    types = (
        f'<Types xmlns="{_TYPES}"><Default Extension="xml" ContentType="application/xml"/>'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/{main}" ContentType="{_MAIN}.{kind}+xml"/></Types>'
    )
    return archive({"[Content_Types].xml": types, "_rels/.rels": _links("officeDocument", [main]), **files})


def _links(kind: str, targets: Sequence[str]) -> str:
    links = "".join(
        f'<Relationship Id="rId{number}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        for number, target in enumerate(targets, 1)
    )
    return f'<Relationships xmlns="{_RELATIONSHIPS}">{links}</Relationships>'


def _slide(element: str, title: str, body: str) -> str:
    shapes = _shape("title", title) + _shape("body", body)
    return (
        f'<p:{element} xmlns:a="{_DRAWING}" xmlns:p="{_SLIDES}"><p:cSld><p:spTree>{shapes}</p:spTree></p:cSld>'
        f"</p:{element}>"
    )


def _shape(kind: str, text: str) -> str:
    return (
        f'<p:sp><p:nvSpPr><p:cNvPr id="2" name="{kind}"/><p:cNvSpPr/><p:nvPr><p:ph type="{kind}"/></p:nvPr></p:nvSpPr>'
        f"<p:spPr/><p:txBody><a:bodyPr/><a:p><a:r><a:t>{escape(text)}</a:t></a:r></a:p></p:txBody></p:sp>"
    )


def _sheet(rows: Sequence[Sequence[str]]) -> str:
    lines = "".join(f"<row>{''.join(map(_cell, row))}</row>" for row in rows)
    return f'<worksheet xmlns="{_SHEETS}"><sheetData>{lines}</sheetData></worksheet>'


def _cell(text: str) -> str:
    return f'<c t="inlineStr"><is><t>{escape(text)}</t></is></c>'
