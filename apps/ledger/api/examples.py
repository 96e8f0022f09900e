"""What goes out, as the schema shows it."""

from apps.core.api.examples import (
    AGENT_ID,
    CHAT_MODEL,
    CONTEXT_ID,
    CONVERSATION_ID,
    COST_USD,
    RUN_ID,
    TENANT_ID,
)

_SUMS = {
    "input_tokens": 612,
    "cached_input_tokens": 0,
    "output_tokens": 34,
    "reasoning_tokens": 0,
    "total_tokens": 646,
    "cost_usd": COST_USD,
    "entries": 1,
    "unpriced_entries": 0,
}

USAGE = {
    "from": "2026-03-01",
    "to": "2026-03-31",
    "granularity": "day",
    "group_by": ["provider", "model"],
    "results": [{"period": "2026-03-02", "provider": "groq", "model": CHAT_MODEL, **_SUMS}],
    "totals": _SUMS,
}
ENTRY = {
    "id": "019cadd4-5da1-7ee9-a57a-a896385e14b3",
    "kind": "usage",
    "idempotency_key": f"chat:{TENANT_ID}:6afb46bbc132f8b4d3b8384e3f59887a:1772442900205",
    "token_type": "llm",
    "operation": "chat",
    "provider": "groq",
    "model": CHAT_MODEL,
    "model_family": "llama-3",
    "input_tokens": 612,
    "cached_input_tokens": 0,
    "cache_write_tokens": 0,
    "output_tokens": 34,
    "reasoning_tokens": 0,
    "total_tokens": 646,
    "token_source": "api",
    "billable": True,
    "cost_usd": COST_USD,
    "price_id": "019b76da-a800-7302-8046-cbcaedb79964",
    "payer_tenant_id": TENANT_ID,
    "owner_tenant_id": TENANT_ID,
    "consumer_tenant_id": TENANT_ID,
    "agent_id": AGENT_ID,
    "collection_id": None,
    "document_id": None,
    "conversation_id": CONVERSATION_ID,
    "run_id": RUN_ID,
    "context_id": CONTEXT_ID,
    "provider_request_id": "req_01kjq8sz6re8gvs6m8w2b5d4ah",
    "attempts": 1,
    "occurred_at": "2026-03-02T09:15:01.921640Z",
    "recorded_at": "2026-03-02T09:15:01.924018Z",
    "corrects": None,
    "metadata": {"credential": "deployment", "passages": 1, "execution_time_ms": 1602},
}
BUDGET = {
    "period": "2026-03",
    "limit_tokens": 5_000_000,
    "spent_tokens": 1_240_646,
    "held_tokens": 4_120,
    "unknown_tokens": 0,
    "available_tokens": 3_755_234,
    "resets_at": "2026-04-01T00:00:00Z",
    "hard": True,
    "day": None,
}
_TRAINED = {
    "idempotency_key": "tuning-7-epoch-1",
    "token_type": "fine_tuning",
    "operation": "batch",
    "provider": "openai",
    "model": "gpt-4.1-mini-2025-04-14",
    "input_tokens": 48_200,
    "occurred_at": "2026-03-02T08:40:00Z",
    "metadata": {"job": "tuning-7"},
}
USAGE_REPORT = {"events": [_TRAINED, {**_TRAINED, "input_tokens": 51_700}]}
_BOOKED = {
    "index": 0,
    "idempotency_key": _TRAINED["idempotency_key"],
    "outcome": "created",
    "entry_id": "019cadd6-8b1c-7a51-9d0e-3f6c2f7b9c44",
    "error": None,
}
_REUSED = {
    "field": "idempotency_key",
    "code": "idempotency_conflict",
    "detail": "Use a new key for new content.",
}
USAGE_OUTCOMES = {"results": [_BOOKED, {**_BOOKED, "index": 1, "outcome": "conflict", "error": _REUSED}]}
DISCREPANCY = {
    "id": "019cadd5-11c8-7d52-9a0f-0f6d1b8b5b21",
    "kind": "lost_attempt",
    "state": "open",
    "subject": "attempt 019cadd4-5d2e-7b1f-8f43-4f1a2d9b7c55",
    "amount_tokens": 5096,
    "evidence": {
        "operation_id": "019cadd4-5d0b-7c44-9d21-90f4f5f0c3aa",
        "provider": "groq",
        "model": CHAT_MODEL,
        "provider_request_id": "",
    },
    "times_seen": 1,
    "first_seen_at": "2026-03-03T09:15:02.114207Z",
    "last_seen_at": "2026-03-03T09:15:02.114207Z",
    "resolved_at": None,
    "resolution": "",
}
