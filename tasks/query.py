"""``query.answer``: answer the question of a run."""

from uuid import UUID

from celery import shared_task

from apps.agents import answering
from tasks.base import ContextTask, Payload


class RunPayload(Payload):
    run_id: UUID


@shared_task(base=ContextTask, bind=True, name="query.answer", payload=RunPayload)
def answer(self: ContextTask, payload: RunPayload) -> dict[str, str]:
    answering.answer(self.ctx, payload.run_id, task_id=self.task_id)
    return {"run_id": str(payload.run_id)}
