"""What goes in and out, as the schema shows it."""

from apps.core.api.examples import (
    AGENT_ID,
    CHAT_MODEL,
    CHUNK_ID,
    COLLECTION_ID,
    CONTEXT_ID,
    CONVERSATION_ID,
    COST_USD,
    DOCUMENT_ID,
    DOCUMENT_NAME,
    EMBEDDING_MODEL,
    RUN_ID,
    SESSION_ID,
)

_QUESTION = "How much may a hotel cost per night?"
_ANSWER = "Hotel rooms are reimbursed up to EUR 170 per night including breakfast [1]."
_CITATIONS = [
    {
        "document_id": DOCUMENT_ID,
        "document_name": DOCUMENT_NAME,
        "chunk_id": CHUNK_ID,
        "page": None,
        "score": 1.0,
        "quote": "Hotel rooms are reimbursed up to EUR 170 per night including breakfast.",
    }
]

AGENT_REQUEST = {
    "slug": "policy-helper",
    "name": "Policy helper",
    "prompt": "Answer from the passages you are given and cite each statement with its passage's number in brackets.",
    "llm": {
        "provider": "groq",
        "model": CHAT_MODEL,
        "temperature": 0.4,
        "temperature_by_query_type": {"rag": 0.2, "chat": None},
        "max_tokens": 1000,
        "timeout_seconds": 60,
        "retry_attempts": 3,
        "on_interrupted_stream": "retry",
        "extras": {"top_p": 0.9},
    },
    "rag": {
        "collections": [COLLECTION_ID],
        "max_results": 8,
        "similarity_threshold": 0.2,
        "query_expansion_enabled": False,
    },
    "fallback_models": [],
}
AGENT_CHANGE = {"llm": {"temperature": 0.2}, "rag": {"max_results": 5}}
AGENT = {
    "id": AGENT_ID,
    **AGENT_REQUEST,
    "version": 1,
    "shared": None,
    "created_at": "2026-03-02T09:10:27.640195Z",
    "updated_at": "2026-03-02T09:10:27.640195Z",
}

SHARE_REQUEST = {"tenant_id": "019cadd6-18b5-76f0-aa74-6a53ea4bb0f1", "payer": "consumer"}
SHARE = {
    "id": "019cadd6-9b11-7b3d-8f7c-2b5d0c3ce2a9",
    **SHARE_REQUEST,
    "created_at": "2026-03-02T09:12:51.345811Z",
}

CHAT_REQUEST = {
    "message": _QUESTION,
    "agent_id": AGENT_ID,
    "model_preferences": {"temperature": 0.2, "max_tokens": 500},
    "collections": [COLLECTION_ID],
}
ACCEPTED = {
    "run_id": RUN_ID,
    "context_id": CONTEXT_ID,
    "session_id": SESSION_ID,
    "conversation_id": CONVERSATION_ID,
    "status": "queued",
    "events_url": f"https://nooble.example/api/v1/runs/{RUN_ID}/events",
}
RUN = {
    "id": RUN_ID,
    "status": "succeeded",
    "agent_id": AGENT_ID,
    "agent_version": 1,
    "conversation_id": CONVERSATION_ID,
    "session_id": SESSION_ID,
    "question": _QUESTION,
    "answer": _ANSWER,
    "finish_reason": "stop",
    "citations": _CITATIONS,
    "usage": {
        "input_tokens": 612,
        "output_tokens": 34,
        "cached_input_tokens": 0,
        "expansion_tokens": 0,
        "embedding_tokens": 9,
        "cost_usd": COST_USD,
        "token_source": "api",
    },
    "config": {
        "llm_config": {
            "provider": "groq",
            "model": CHAT_MODEL,
            "temperature": 0.2,
            "max_tokens": 500,
            "timeout_seconds": 60,
            "retry_attempts": 3,
            "on_interrupted_stream": "retry",
            "extras": {"top_p": 0.9},
        },
        "rag_config": {
            "collections": [
                {
                    "collection_id": COLLECTION_ID,
                    "embedding_model": EMBEDDING_MODEL,
                    "embedding_dimensions": 3072,
                    "similarity_threshold": 0.2,
                }
            ],
            "max_results": 8,
            "query_expansion_enabled": False,
        },
        "processing_config": {
            "truncation_strategy": "end",
            "max_text_length": 8192,
            "batch_size": 50,
            "chunk_size": 512,
            "chunk_overlap": 64,
        },
        "fallback_models": [],
        "sources": {
            "llm_config.provider": "agent",
            "llm_config.model": "agent",
            "llm_config.temperature": "request",
            "llm_config.max_tokens": "request",
            "llm_config.timeout_seconds": "agent",
            "rag_config.max_results": "agent",
            "processing_config.chunk_size": "deployment",
        },
    },
    "error": None,
    "timings_ms": {"queue": 12, "retrieve": 48, "generate": 1650, "total": 1710},
    "task_id": "be77b67e-1337-46de-bf72-ed02e5ef7386",
    "created_at": "2026-03-02T09:15:00.211408Z",
}
CONVERSATION = {
    "id": CONVERSATION_ID,
    "agent_id": AGENT_ID,
    "title": _QUESTION,
    "created_at": "2026-03-02T09:15:00.210733Z",
}
MESSAGE = {
    "id": "019cadd4-5daa-7194-9920-18d607423428",
    "run_id": RUN_ID,
    "author": "assistant",
    "content": _ANSWER,
    "finish_reason": "stop",
    "citations": _CITATIONS,
    "metadata": {"provider": "groq", "model": CHAT_MODEL, "config": RUN["config"]},
    "created_at": "2026-03-02T09:15:01.930112Z",
}
