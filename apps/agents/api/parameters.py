"""The headers of a question, as the schema shows them."""

from apps.core import headers
from apps.core.api.schema import header

#: What :func:`apps.agents.contexts.chat_context` reads besides the body.
CHAT_PARAMETERS = [
    *headers.parameters(
        (
            *("X-Agent-ID", "X-Conversation-ID", "X-Collection-ID", "X-RAG-Collections"),
            *("X-LLM-Provider", "X-LLM-Model", "X-LLM-Temperature", "X-LLM-Max-Tokens"),
            *("X-RAG-Similarity-Threshold", "X-RAG-Results-Limit", *headers.EMBEDDING),
        )
    ),
    header("Prefer", "`wait=N`: answer with the finished run if it finishes within N seconds, at most 60."),
]
