"""The story that the schema's examples tell: ids that appear in more than one room.

Harbour Analytics has put its travel policy into a collection, made an agent for it, and asks what a hotel may cost.
"""

TENANT_ID = "019cadc6-9a80-7137-a011-d0e5ec313536"
COLLECTION_ID = "019cadcb-cb16-7332-ad1d-390cb1b52335"
DOCUMENT_ID = "019cadcc-21c0-752e-9d57-122da276f479"
CHUNK_ID = "019cadcc-282f-76d5-ba8d-aa5d87e220bc"
AGENT_ID = "019cadd0-2e38-762d-b7d0-b79d11100c71"
CONVERSATION_ID = "019cadd4-56f2-7e8e-b91c-d0a35209883c"
SESSION_ID = "019cadd4-56ec-7b66-ac75-1f958acf43b6"
CONTEXT_ID = "019cadd4-56ed-78bf-80b5-ebf39d4f55a2"
RUN_ID = "019cadd4-56f3-7dea-9ed8-ad8e44933f39"
REQUEST_ID = "019cadd4-56e8-7ac1-a08e-86d5ef398213"

DOCUMENT_NAME = "travel-and-expense-policy.docx"
CHAT_MODEL = "llama-3.3-70b-versatile"
EMBEDDING_MODEL = "text-embedding-3-large"
COST_USD = "0.0003879400"
