"""Vectors that no entry is written for are not kept: what somebody else has closed meanwhile is not booked any more."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError, connection

from apps.collections.models import Collection
from apps.core.context import ExecutionContext
from apps.core.db import unit_of_work
from apps.core.errors import NoobleError
from apps.gateway import attempts
from apps.gateway import services as gateway
from apps.gateway.types import Charge, OperationKind, TokenType
from apps.ledger import till
from apps.ledger.errors import OperationEndedError, OperationInProgressError
from apps.ledger.models import Attempt, Discrepancy, Entry
from apps.ledger.types import TokenCounts
from apps.providers.base import Vectors
from tests.fakes.process import FakeProvider
from tests.gateway.test_purchase import EMBEDDING, context, counted, operation, states
from tests.ledger.test_till import check_books
from tests.personas import Persona

#: What somebody else does to our attempt, in a thread of its own.
Closing = Callable[[ExecutionContext, Attempt], object]


def void(ctx: ExecutionContext, ours: Attempt) -> None:
    till.void(ctx, ours.pk, code="not_seen")


def report(ctx: ExecutionContext, ours: Attempt) -> None:
    till.report(ctx, ours.pk, TokenCounts(fresh_input_tokens=5))


def fail(ctx: ExecutionContext, ours: Attempt) -> None:
    till.fail(ctx, ours.operation_id, epoch=None, code="x", detail="x")


def elsewhere(ctx: ExecutionContext, close: Closing) -> None:
    def closing() -> None:
        try:
            with unit_of_work(ctx):
                ours = Attempt.objects.get()
            close(ctx, ours)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as other:
        other.submit(closing).result()


def embed(ctx: ExecutionContext, close: Closing) -> None:
    """Vectors are stored; and before their call is booked, somebody closes its attempt, once."""
    charge = Charge(operation=OperationKind.BATCH, token_type=TokenType.EMBEDDING, payload={"batch": uuid4()})
    once = [close]

    def store(_: Vectors) -> dict[str, Any]:
        Collection.objects.get_or_create(tenant_id=ctx.tenant_id, slug="kept", name="Kept")
        if once:
            elsewhere(ctx, once.pop())
        return {}

    gateway.embed(ctx, charge, ["one", "two"], config=EMBEDDING, store=store)


def check_nothing_was_kept(owner: Persona) -> None:
    with unit_of_work(owner.ctx):
        assert not Collection.objects.exists()
        assert not Entry.objects.exists()
    assert check_books(owner.ctx).entries == 0


@pytest.mark.parametrize(
    ("close", "error", "state"),
    [
        (void, OperationInProgressError, "void"),
        (report, OperationInProgressError, "lost"),
        (fail, OperationEndedError, "lost"),
    ],
)
def test_of_a_call_that_was_closed_meanwhile_nothing_is_kept(
    owner: Persona, fake_provider: FakeProvider, close: Closing, error: type[NoobleError], state: str
) -> None:
    ctx = context(owner, retries=0)
    with pytest.raises(error):
        embed(ctx, close)
    assert states(owner) == [state]
    check_nothing_was_kept(owner)


def test_what_its_provider_had_not_seen_and_counts_all_the_same_is_noted(
    owner: Persona, fake_provider: FakeProvider
) -> None:
    with pytest.raises(OperationInProgressError):
        embed(context(owner, retries=0), void)
    with unit_of_work(owner.ctx):
        assert Discrepancy.objects.get(kind="counted_void").amount_tokens == counted(fake_provider, owner)


@pytest.fixture
def lost_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first transaction that books vectors takes effect, and its reply is lost."""
    lost = [OperationalError("the connection broke after COMMIT")]

    @contextmanager
    def losing(ctx: ExecutionContext) -> Iterator[None]:
        with unit_of_work(ctx):
            yield
        if lost:
            raise lost.pop()

    monkeypatch.setattr(attempts, "unit_of_work", losing)


@pytest.mark.usefixtures("lost_reply")
def test_nor_where_that_is_said_a_second_time(owner: Persona, fake_provider: FakeProvider) -> None:
    with pytest.raises(OperationEndedError):
        embed(context(owner, retries=0), fail)
    assert (states(owner), operation(owner).state) == (["lost"], "failed")
    check_nothing_was_kept(owner)


@pytest.mark.usefixtures("lost_reply")
def test_what_was_booked_is_kept_though_it_is_said_a_second_time(owner: Persona, fake_provider: FakeProvider) -> None:
    embed(context(owner, retries=0), lambda ctx, ours: None)
    assert states(owner) == ["settled"]
    with unit_of_work(owner.ctx):
        assert Collection.objects.get().slug == "kept"
    books = check_books(owner.ctx)
    assert (books.entries, books.spent_tokens) == (1, counted(fake_provider, owner))
