"""``Idempotency-Key``: a POST that is sent again does not happen again (semantics as Stripe's).

Two forms, for two kinds of effect. What happens in one transaction is remembered in that transaction, so that key and
effect exist together or not at all. What calls the outside world is announced first and remembered afterwards; its key
keeps the moment of the first request, from which the till derives the same operation keys, so nothing is paid twice.
"""

import hashlib
import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import db, headers
from apps.core.context import ExecutionContext
from apps.core.errors import ConflictError, FieldError, InvalidRequestError, NoobleError
from apps.core.ids import new_id
from apps.core.models import IdempotentResponse

KEPT = timedelta(days=7)
#: How long a request may be at work before another one with its key may take over.
LEASE = timedelta(seconds=90)
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class IdempotencyKeyReusedError(NoobleError):
    """The Idempotency-Key was used before, with another request."""

    code = "idempotency_key_reused"
    status = 422


class IdempotencyKeyInUseError(ConflictError):
    """The first request with this Idempotency-Key is still at work."""

    code = "idempotency_key_in_use"
    retryable = True


def key_of(request: Request) -> str | None:
    """The request's Idempotency-Key; None: it has none, and happens each time it is sent."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidRequestError(
            "The header Idempotency-Key is malformed: expected 1 to 255 printable ASCII characters.",
            errors=[FieldError(field="Idempotency-Key", code="malformed_header", detail="Use a UUID.")],
        )
    return key


def in_one_transaction(
    ctx: ExecutionContext, request: Request, act: Callable[[], Response], *, secrets: tuple[str, ...] = ()
) -> Response:
    """Run ``act`` in the context's unit of work, once per key. ``secrets``: members that a replay shows as null."""
    key = key_of(request)
    with db.unit_of_work(ctx):
        if key is None:
            return act()
        # A second request with the key would wait for the first on the unique index; it is told at once instead.
        if not _try_lock(ctx, key):
            raise IdempotencyKeyInUseError("Wait for it, or send the request again in a moment.")
        first = IdempotentResponse.objects.filter(tenant_id=ctx.tenant_id, key=key).first()
        if first is not None:
            return _replay(first, fingerprint(request))
        response = act()
        IdempotentResponse.objects.create(
            tenant_id=ctx.tenant_id,
            key=key,
            request_hash=fingerprint(request),
            status_code=response.status_code,
            body=_plain(response.data, secrets),
        )
        return response


def announced(ctx: ExecutionContext, request: Request, act: Callable[[datetime], Response]) -> Response:
    """Run ``act`` outside any transaction, once per key; it is given the moment at which the first request came."""
    key = key_of(request)
    if key is None:
        return act(ctx.created_at)
    row = _announce(ctx, key, fingerprint(request))
    if row.status_code is not None:
        return _replay(row, row.request_hash)
    try:
        response = act(row.created_at)
    except NoobleError:
        # An error is not remembered: the client mends the request, or waits, and uses the key again.
        with db.unit_of_work(ctx):
            IdempotentResponse.objects.filter(pk=row.pk).update(lease_expires_at=None)
        raise
    with db.unit_of_work(ctx):
        IdempotentResponse.objects.filter(pk=row.pk).update(
            status_code=response.status_code, body=_plain(response.data, ()), lease_expires_at=None
        )
    return response


def forget_old() -> int:
    """Delete what is older than seven days; returns how many. The caller is in the operator's scope."""
    return IdempotentResponse.objects.filter(created_at__lt=Now() - KEPT).delete()[0]


def fingerprint(request: Request) -> str:
    """SHA-256 of method, path, the headers that decide what is done, and content.

    Of a multipart body it is its fields and files, since its boundary varies.
    """
    digest = hashlib.sha256(f"{request.method} {request.get_full_path()}\n".encode())
    for name, text in headers.deciding(request):
        digest.update(f"{name}: {text}\n".encode())
    if hasattr(request.data, "lists"):
        for name, values in sorted(request.data.lists()):
            for value in values:
                digest.update(f"{name}={_content(value)}\n".encode())
    else:
        digest.update(json.dumps(request.data, sort_keys=True, cls=DjangoJSONEncoder).encode())
    return digest.hexdigest()


def _content(value: Any) -> str:
    if not isinstance(value, UploadedFile):
        return str(value)
    digest = hashlib.sha256()
    for chunk in value.chunks():
        digest.update(chunk)
    value.seek(0)
    return f"{value.name}:{digest.hexdigest()}"


def _try_lock(ctx: ExecutionContext, key: str) -> bool:
    statement = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0)) AS locked"
    row = db.fetch_one(statement, [f"idempotency:{ctx.tenant_id}:{key}"])
    return bool(row and row["locked"])


def _announce(ctx: ExecutionContext, key: str, request_hash: str) -> IdempotentResponse:
    with db.unit_of_work(ctx):
        rows = IdempotentResponse.objects.filter(tenant_id=ctx.tenant_id, key=key)
        new = IdempotentResponse(
            id=new_id(), tenant_id=ctx.tenant_id, key=key, request_hash=request_hash, created_at=ctx.created_at
        )
        IdempotentResponse.objects.bulk_create([new], ignore_conflicts=True)
        row = rows.get()
        if row.request_hash != request_hash:
            raise _reused()
        free = Q(lease_expires_at__isnull=True) | Q(lease_expires_at__lt=Now())
        # One conditional UPDATE: of two requests at once, one takes the lease.
        if row.status_code is None and not rows.filter(free).update(lease_expires_at=timezone.now() + LEASE):
            raise IdempotencyKeyInUseError("Wait for it, or send the request again in a moment.")
    return row


def _replay(first: IdempotentResponse, request_hash: str) -> Response:
    if first.request_hash != request_hash:
        raise _reused()
    return Response(first.body, status=first.status_code, headers={"Idempotent-Replayed": "true"})


def _reused() -> IdempotencyKeyReusedError:
    return IdempotencyKeyReusedError(
        "Use a new key for a new request; the old one belongs to the first request's body and headers."
    )


def _plain(data: Any, secrets: tuple[str, ...]) -> Any:
    body = json.loads(json.dumps(data, cls=DjangoJSONEncoder))
    return {**body, **dict.fromkeys(secrets)} if secrets else body
