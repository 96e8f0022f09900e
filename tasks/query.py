"""``query.answer``: answer the question of a run."""

from uuid import UUID

from celery import shared_task

from apps.agents import answering
from tasks.base import ContextTask


@shared_task(base=ContextTask, bind=True, name="query.answer")
def answer(self: ContextTask, run_id: str) -> dict[str, str]:
    answering.answer(self.ctx, UUID(run_id), task_id=self.task_id)
    return {"run_id": run_id}
