"""The context travels signed, and nothing else is believed."""

from datetime import timedelta
from typing import Any

import pytest
from django.core import signing
from pydantic import ValidationError

from apps.core import clock
from apps.core.context import SALT, ContextRefusedError, ExecutionContext, LLMConfig, restore, unverified
from apps.core.ids import new_id


def context(**changes: Any) -> ExecutionContext:
    tenant = new_id()
    fields: dict[str, Any] = {
        "context_type": "chat",
        "deadline": clock.now() + timedelta(seconds=60),
        "tenant_id": tenant,
        "tenant_tier": "free",
        "payer_tenant_id": tenant,
        "owner_tenant_id": tenant,
        **changes,
    }
    return ExecutionContext(**fields)


def test_what_was_signed_comes_back_whole() -> None:
    config = LLMConfig(
        provider="groq", model="m", temperature=0.4, max_tokens=4000, timeout_seconds=60, retry_attempts=3
    )
    ctx = context(llm_config=config, config_sources={"llm_config.model": "request"}, fallback_models=("a", "b"))
    assert restore(ctx.sign()) == ctx


def test_ids_and_the_moment_of_arrival_survive_although_they_have_defaults() -> None:
    ctx = context()
    restored = restore(ctx.sign())
    assert (restored.context_id, restored.created_at) == (ctx.context_id, ctx.created_at)


@pytest.mark.parametrize("token", [None, "", "nonsense", "a:b:c", "x" * 20_000])
def test_what_is_no_context_is_refused(token: str | None) -> None:
    with pytest.raises(ContextRefusedError):
        restore(token)


def test_a_tampered_context_is_refused() -> None:
    token = context().sign()
    with pytest.raises(ContextRefusedError):
        restore(token[:20] + ("a" if token[20] != "a" else "b") + token[21:])


def test_a_signature_made_for_something_else_is_refused() -> None:
    content = context().model_dump(mode="json")
    with pytest.raises(ContextRefusedError):
        restore(signing.dumps(content, salt="another"))


def test_an_unknown_field_is_refused_although_the_signature_is_ours() -> None:
    content = {**context().model_dump(mode="json"), "is_admin": True}
    with pytest.raises(ContextRefusedError):
        restore(signing.dumps(content, salt=SALT))


@pytest.mark.parametrize("metadata", [{}, {"words": "the same words " * 100}], ids=["plain", "compressed"])
def test_a_context_of_a_key_that_was_thrown_away_can_be_shown_and_is_not_believed(
    settings: Any, metadata: dict[str, Any]
) -> None:
    ctx = context(metadata=metadata)
    token = ctx.sign()
    settings.SECRET_KEY = "another key of this deployment, which knows nothing of the first"
    with pytest.raises(ContextRefusedError):
        restore(token)
    assert unverified(token) == ctx


@pytest.mark.parametrize("token", ["", "nonsense", "a:b:c", ".AAAA:b:c", "W10:b:c", "e30:b:c", "\ud800:b:c"])
def test_what_is_no_context_is_not_shown_either(token: str) -> None:
    with pytest.raises(ContextRefusedError):
        unverified(token)


def test_a_context_that_is_too_large_does_not_travel() -> None:
    noise = {f"key-{number}": str(new_id()) for number in range(2000)}
    with pytest.raises(ContextRefusedError):
        context(metadata=noise).sign()


def test_a_context_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        context().tenant_tier = "enterprise"


def test_a_renewed_context_keeps_the_moment_its_keys_are_made_of() -> None:
    ctx = context(deadline=clock.now() - timedelta(hours=1))
    renewed = ctx.renewed(60)
    assert renewed.deadline > clock.now()
    assert renewed.created_at == ctx.created_at
