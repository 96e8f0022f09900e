"""``embedding.embed_batch``: embed one batch of a document's chunks."""

from uuid import UUID

from celery import shared_task

from apps.collections import ingestion
from tasks.base import ContextTask, Payload


class BatchPayload(Payload):
    embeddingbatch_id: UUID


@shared_task(base=ContextTask, bind=True, name="embedding.embed_batch", payload=BatchPayload)
def embed_batch(self: ContextTask, payload: BatchPayload) -> dict[str, str]:
    ingestion.embed_batch(self.ctx, payload.embeddingbatch_id, task_id=self.task_id)
    return {"embeddingbatch_id": str(payload.embeddingbatch_id)}
