"""What goes in and out, as the schema shows it."""

from apps.core.api.examples import CHUNK_ID, COLLECTION_ID, DOCUMENT_ID, DOCUMENT_NAME, EMBEDDING_MODEL

_HOTELS = (
    "# Hotels\n\nHotel rooms are reimbursed up to EUR 170 per night including breakfast. In London, Zurich, Copenhagen "
    "and Singapore the limit is EUR 230 per night."
)

COLLECTION_REQUEST = {
    "slug": "policies",
    "name": "Policies",
    "language": "english",
    "embedding": {"provider": "openai", "model": EMBEDDING_MODEL, "dimensions": 3072},
    "chunk_size": 512,
    "chunk_overlap": 64,
}
COLLECTION_CHANGE = {"name": "Company policies"}
COLLECTION = {
    "id": COLLECTION_ID,
    **COLLECTION_REQUEST,
    "documents": 1,
    "chunks": 7,
    "status": "ready",
    "created_at": "2026-03-02T09:05:40.118034Z",
}

DOCUMENT_TEXT = {"name": "hotels.md", "text": _HOTELS, "metadata": {"department": "finance"}}
DOCUMENT_FILE = {"file": DOCUMENT_NAME, "metadata": {"department": "finance"}}
DOCUMENT = {
    "id": DOCUMENT_ID,
    "collection_id": COLLECTION_ID,
    "name": DOCUMENT_NAME,
    "content_type": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "size_bytes": 38069,
    "content_hash": "33bfb48508df52514c035f5443e9465349864587e7d5befcbd9fad0307b1bd71",
    "status": "ready",
    "progress": 1.0,
    "error": None,
    "chunks": 7,
    "tokens": 749,
    "pages": None,
    "metadata": {"department": "finance"},
    "task_id": "3a478ff8-2581-453d-a250-2bf8fdc0d306",
    "created_at": "2026-03-02T09:06:02.304871Z",
}
CHUNK = {"id": CHUNK_ID, "ordinal": 2, "text": _HOTELS, "page": None, "heading": "Hotels", "tokens": 41}

SEARCH_REQUEST = {
    "query": "How much may a hotel cost?",
    "limit": 5,
    "similarity_threshold": 0.2,
    "mode": "hybrid",
}
SEARCH_RESULT = {
    "results": [
        {
            "chunk_id": CHUNK_ID,
            "document_id": DOCUMENT_ID,
            "document_name": DOCUMENT_NAME,
            "text": _HOTELS,
            "page": None,
            "heading": "Hotels",
            "score": 1.0,
            "vector_score": 0.5241,
            "lexical_score": 1.4529,
        }
    ],
    "usage": {"embedding_tokens": 7, "token_source": "api"},
}
