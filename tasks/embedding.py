"""``embedding.embed_batch``: embed one batch of a document's chunks."""

from uuid import UUID

from celery import shared_task

from apps.collections import ingestion
from tasks.base import ContextTask


@shared_task(base=ContextTask, bind=True, name="embedding.embed_batch")
def embed_batch(self: ContextTask, embeddingbatch_id: str) -> dict[str, str]:
    ingestion.embed_batch(self.ctx, UUID(embeddingbatch_id), task_id=self.task_id)
    return {"embeddingbatch_id": embeddingbatch_id}
