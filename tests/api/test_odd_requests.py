"""Requests as no client means them: a problem document with a code, whatever is sent, and never an error of ours."""

import re
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from apps.core.api.parsers import MAX_DEPTH
from tests.api import openapi
from tests.api.openapi import Operation
from tests.api.rows import add_one_of_everything
from tests.api.test_authentication import check_problem
from tests.personas import MakeTenant, Persona

HEADERS = [
    ("Accept", "text/html"),
    ("Accept", ",;=,"),
    ("Accept", "*/*;indent=99999999999"),
    ("Accept", "\xff" * 300),
    ("Content-Type", "application/json; charset=nonsense"),
    ("Content-Type", "multipart/form-data"),
    ("Content-Type", "multipart/form-data; boundary=\xff"),
    ("Content-Type", "/;"),
    ("Content-Encoding", "gzip"),
    ("Idempotency-Key", "\xff"),
    ("Idempotency-Key", ""),
    ("X-Request-ID", "\xff\t" + "x" * 5000),
    ("X-Tenant-ID", ""),
    ("Cookie", "sessionid=\0; csrftoken=\xff;;="),
    ("Prefer", "wait=99999999999999999999, wait=nan"),
    ("Accept-Language", "zz-\xff" * 200),
]
BODIES = [
    b"",
    b"null",
    b"[]",
    b"\xef\xbb\xbf{}",
    b'{"slug": "\\ud800", "name": "\\ud800", "mode": "\\ud800", "payer": "\\ud800"}',
    b'{"events": [{"token_type": "\\ud800"}], "role": "\\ud800", "scopes": ["\\ud800"]}',
    b'{"a": 1, "a": 2}',
    b'{"a": ' + b"9" * 5000 + b"}",
    b"{}\0",
]
#: Around the limit, around the interpreter's own, and far beyond both.
DEPTHS = [MAX_DEPTH + 1, 500, *range(890, 930, 5), 5000]


@pytest.fixture
def collection(owner: Persona) -> str:
    made = owner.api.post("/api/v1/collections", {"slug": "notes", "name": "Notes"}, format="json")
    return str(made.json()["id"])


def upload(persona: Persona, collection: str, *parts: bytes) -> Any:
    """A document as a form, part by part, each with its headers."""
    body = b"".join(b"--x\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--x--\r\n"
    path = f"/api/v1/collections/{collection}/documents"
    client = Client(headers={"Authorization": f"Bearer {persona.key}"})
    return client.post(path, body, content_type="multipart/form-data; boundary=x")


@pytest.mark.parametrize("operation", openapi.operations(), ids=str)
def test_an_odd_request_is_answered_as_the_api_answers(make_tenant: MakeTenant, operation: Operation) -> None:
    persona = make_tenant()
    ids = {name: str(uuid4()) for name in re.findall(r"{(\w+)}", operation.path)}
    client = Client(headers={"Authorization": f"Bearer {persona.key}"}, raise_request_exception=False)
    path, method = operation.path.format(**ids), operation.method.upper()
    answers = [client.generic(method, path, b"{}", "application/json", headers=dict([each])) for each in HEADERS]
    answers += [client.generic(method, path, body, content_type="application/json") for body in BODIES]
    for answer in answers:
        assert answer.status_code < 500, answer.content
        if answer.status_code >= 400:
            check_problem(answer, answer.status_code, answer.json()["code"])


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "text/event-stream", "nonsense", "\xff"])
def test_an_answer_in_another_format_is_refused(owner: Persona, accept: str) -> None:
    check_problem(owner.api.get("/api/v1/agents", headers={"Accept": accept}), 406, "not_acceptable")


def test_a_problem_is_json_also_where_answers_are_not(database: None) -> None:
    check_problem(Client().get("/api/schema", headers={"Accept": "text/html"}), 406, "not_acceptable")
    check_problem(Client().get("/api/schema?format=zip"), 404, "not_found")
    check_problem(Client().post("/api/schema"), 405, "method_not_allowed")
    check_problem(Client().post("/api/docs"), 405, "method_not_allowed")


@pytest.mark.parametrize("host", ["a b", "\xff", ""])
def test_a_malformed_host_is_refused(owner: Persona, host: str) -> None:
    check_problem(owner.api.get("/api/v1/agents", headers={"Host": host}), 400, "invalid_request")


def test_head_is_get_without_a_body(owner: Persona) -> None:
    path = f"/api/v1/agents/{add_one_of_everything(owner)['agents']}"
    shown, headed = owner.api.get(path), owner.api.head(path)
    assert (headed.status_code, headed.content) == (200, b"")
    assert headed["Content-Type"] == shown["Content-Type"]
    assert owner.api.head(f"/api/v1/agents/{uuid4()}").status_code == 404


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PUT", "PROPFIND"])
def test_a_method_that_no_address_takes_is_refused(owner: Persona, method: str) -> None:
    for path in ("/api/v1/agents", f"/api/v1/agents/{uuid4()}", "/api/v1/budget"):
        response = owner.api.generic(method, path)
        check_problem(response, 405, "method_not_allowed")
        assert method not in response["Allow"]


@pytest.mark.parametrize(
    "path", ["agents/", "agents//", "/agents", "agents%00", "agents%0d%0aX: y", "%ff%fe", "../v1/no"]
)
def test_an_address_that_is_nearly_one_is_none(owner: Persona, path: str) -> None:
    for method in ("GET", "POST"):
        check_problem(owner.api.generic(method, f"/api/v1/{path}"), 404, "not_found")


@pytest.mark.parametrize("cursor", ["%ff", "A" * 9000, "cD0lMDA%3D", "bz0tMQ%3D%3D", "bz14", "cj0xJnA9eA%3D%3D"])
def test_a_cursor_that_is_not_ours_is_no_error_of_ours(owner: Persona, cursor: str) -> None:
    """``p=%00``, ``o=-1``, ``o=x`` and ``r=1&p=x`` among them: some only say where to begin."""
    response = owner.api.get(f"/api/v1/agents?cursor={cursor}")
    if response.status_code != 200:
        check_problem(response, 404, "not_found")


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("opening", "closing"), ["[]", ('{"k":', "}")])
def test_json_that_is_nested_too_deeply_is_refused(
    owner: Persona, collection: str, opening: str, closing: str, depth: int
) -> None:
    nested = f'{{"k": {opening * depth}1{closing * depth}}}'
    path = f"/api/v1/collections/{collection}/documents"
    body = f'{{"name": "a", "text": "b", "metadata": {nested}}}'
    whole = owner.api.generic("POST", path, body, content_type="application/json")
    check_problem(whole, 400, "invalid_request")
    part = b'name="file"; filename="a.txt"\r\n\r\nb'
    form = upload(owner, collection, part, b'name="metadata"\r\n\r\n' + nested.encode())
    assert check_problem(form, 400, "invalid_request")["errors"][0]["field"] == "metadata"


def test_json_that_is_nested_as_deep_as_may_be_is_stored_and_shown(owner: Persona, collection: str) -> None:
    metadata: Any = 1
    for _ in range(MAX_DEPTH - 1):
        metadata = {"k": metadata}
    path = f"/api/v1/collections/{collection}/documents"
    body = {"name": "a", "text": "b", "metadata": metadata}
    added = owner.api.post(path, body, format="json", headers={"Idempotency-Key": "deep"})
    assert added.status_code == 202, added.json()
    assert owner.api.get(f"/api/v1/documents/{added.json()['id']}").json()["metadata"] == metadata


@pytest.mark.parametrize("content_type", [b"a\0b", b"\xff\xfe", b"text", b"text/plain\x01", b"t/" + b"x" * 500])
def test_a_file_may_say_of_itself_what_it_likes(owner: Persona, collection: str, content_type: bytes) -> None:
    part = b'name="file"; filename="a.txt"\r\nContent-Type: ' + content_type + b"\r\n\r\nwords"
    added = upload(owner, collection, part)
    assert added.status_code == 202, added.json()
    assert added.json()["content_type"] in {"", content_type.decode(errors="replace")[:128]}


@pytest.mark.parametrize("name", [b"", b"..", b"/", b"\xff.txt", b"a\0\x07.txt", b"../../b.txt", b"n" * 400 + b".txt"])
def test_a_file_may_be_called_what_it_likes(owner: Persona, collection: str, name: bytes) -> None:
    added = upload(owner, collection, b'name="file"; filename="' + name + b'"\r\n\r\nwords')
    if added.status_code == 202:
        assert re.fullmatch(r"[\w.]{1,255}", added.json()["name"])
    else:
        check_problem(added, 400, "invalid_request")


def test_a_form_of_thousands_of_fields_is_refused(owner: Persona, collection: str) -> None:
    for part in (b'name="a"\r\n\r\n1', b'name="a"; filename="a"\r\n\r\n1'):
        check_problem(upload(owner, collection, *[part] * 2000), 413, "too_large")
