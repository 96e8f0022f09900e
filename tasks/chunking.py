"""``ingestion.chunk``: read a document and cut it into chunks."""

from uuid import UUID

from celery import shared_task

from apps.collections import ingestion
from tasks.base import ContextTask, Payload


class DocumentPayload(Payload):
    document_id: UUID


@shared_task(base=ContextTask, bind=True, name="ingestion.chunk", payload=DocumentPayload)
def chunk(self: ContextTask, payload: DocumentPayload) -> dict[str, str]:
    ingestion.chunk_document(self.ctx, payload.document_id, task_id=self.task_id)
    return {"document_id": str(payload.document_id)}
