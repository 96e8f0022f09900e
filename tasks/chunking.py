"""``ingestion.chunk``: read a document and cut it into chunks."""

from uuid import UUID

from celery import shared_task

from apps.collections import ingestion
from tasks.base import ContextTask


@shared_task(base=ContextTask, bind=True, name="ingestion.chunk")
def chunk(self: ContextTask, document_id: str) -> dict[str, str]:
    ingestion.chunk_document(self.ctx, UUID(document_id), task_id=self.task_id)
    return {"document_id": document_id}
