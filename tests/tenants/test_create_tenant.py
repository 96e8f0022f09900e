"""``manage.py create_tenant``: a tenant and its first key, or one sentence that says why not."""

import re
from uuid import uuid4

import pytest
from django.core.management import execute_from_command_line
from rest_framework.test import APIClient

from apps.core.db import operator_scope
from apps.tenants import keys
from apps.tenants.models import ApiKey, Tenant

pytestmark = pytest.mark.usefixtures("database")


def create_tenant(*arguments: str) -> int:
    """Run the command as ``manage.py`` does; returns the exit status."""
    try:
        execute_from_command_line(["manage.py", "create_tenant", *arguments])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def new_slug() -> str:
    return f"t-{uuid4().hex[:12]}"


def found(slug: str) -> Tenant | None:
    with operator_scope("test"):
        return Tenant.objects.filter(slug=slug).first()


def test_it_prints_a_key_that_opens_the_api(capsys: pytest.CaptureFixture[str]) -> None:
    slug = new_slug()
    options = ["--name", "Acme Ltd", "--tier", "professional", "--time-zone", "Europe/Madrid"]
    assert create_tenant(slug, *options) == 0
    printed = capsys.readouterr().out
    [key] = re.findall(r"^key +(nbl_\S+)$", printed, re.MULTILINE)
    tenant = found(slug)
    assert tenant is not None
    assert f"{slug} ({tenant.pk}), tier professional" in printed
    assert (tenant.name, tenant.tier_id, tenant.time_zone) == ("Acme Ltd", "professional", "Europe/Madrid")

    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    assert client.get("/api/v1/budget").status_code == 200


def test_the_key_is_printed_once_and_its_hash_is_stored(capsys: pytest.CaptureFixture[str]) -> None:
    slug = new_slug()
    assert create_tenant(slug) == 0
    captured = capsys.readouterr()
    [text] = re.findall(r"nbl_\S+", captured.out + captured.err)
    key = keys.parse(text)
    assert key is not None
    with operator_scope("test"):
        [row] = ApiKey.objects.filter(tenant__slug=slug).values()
    assert row["secret_hash"] == key.secret_hash()
    secret = text.removeprefix(f"nbl_{key.prefix}_")
    assert not any(secret in str(value) for value in row.values())


def test_only_the_slug_is_needed() -> None:
    slug = new_slug()
    assert create_tenant(slug) == 0
    tenant = found(slug)
    assert tenant is not None
    assert (tenant.name, tenant.tier_id, tenant.time_zone) == (slug, "free", "UTC")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--tier", "golden"], "There is no tier “golden”. There are: free, advance, professional, enterprise."),
        (["--time-zone", "Mars/Olympus"], "time zone: “Mars/Olympus” is not a time zone. Use an IANA name such as"),
        (["--name", "x" * 201], "name: Ensure this value has at most 200 characters (it has 201)."),
    ],
    ids=["tier", "time zone", "name"],
)
def test_what_is_wrong_is_said_in_a_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    slug = new_slug()
    assert create_tenant(slug, *arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"CommandError: {complaint}")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert found(slug) is None


@pytest.mark.parametrize("slug", ["Acme Ltd", "acme/../beta", "", "x" * 64])
def test_a_bad_slug_is_refused(capsys: pytest.CaptureFixture[str], slug: str) -> None:
    assert create_tenant(slug) == 1
    assert capsys.readouterr().err.startswith("CommandError: slug: ")
    assert found(slug) is None


def test_a_slug_that_is_taken_is_refused_and_makes_no_key(capsys: pytest.CaptureFixture[str]) -> None:
    slug = new_slug()
    assert create_tenant(slug) == 0
    capsys.readouterr()
    assert create_tenant(slug) == 1
    captured = capsys.readouterr()
    assert captured.err == f"CommandError: There is a tenant “{slug}” already. Choose another slug.\n"
    assert captured.out == ""
    with operator_scope("test"):
        assert ApiKey.objects.filter(tenant__slug=slug).count() == 1


def test_its_help_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert create_tenant("--help") == 0
    printed = " ".join(capsys.readouterr().out.split())
    for expected in ("first API key, once", "Short name", "advance, professional or enterprise", "IANA name"):
        assert expected in printed
