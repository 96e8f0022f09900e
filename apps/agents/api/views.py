from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from apps.agents import contexts, runs, services, shares, waiting
from apps.agents.api.parameters import CHAT_PARAMETERS
from apps.agents.api.serializers import (
    AcceptedSerializer,
    AgentChangeSerializer,
    AgentQuerySerializer,
    AgentRequestSerializer,
    AgentSerializer,
    ChatRequestSerializer,
    ConversationSerializer,
    MessageSerializer,
    RunSerializer,
    changes_of,
    member_of,
    present_agent,
)
from apps.agents.contexts import ChatBody
from apps.agents.errors import AgentNotFoundError, ConversationNotFoundError, RunNotFoundError
from apps.agents.models import Agent, Conversation, Message, Run
from apps.collections.errors import CollectionNotFoundError, EmbeddingSpaceMismatchError
from apps.core.api import idempotency
from apps.core.api.schema import raises
from apps.core.configuration import InvalidSettingError
from apps.core.errors import FieldError, PreferenceConflictError, SlugTakenError, TooLargeError
from apps.providers import choices
from apps.tenants import entry
from apps.tenants.api.base import TenantViewSet, in_unit_of_work
from apps.tenants.types import Scope


class AgentViewSet(TenantViewSet):
    """Agents."""

    scope = Scope.MANAGE
    queryset = Agent.objects.all()
    serializer_class = AgentSerializer

    def handle_exception(self, exc: Exception) -> Response:
        """What is wrong with a setting stands where the client sent it, as what is wrong with a value does."""
        if isinstance(exc, InvalidSettingError):
            exc.errors = tuple(replace(error, field=member_of(error.field)) for error in exc.errors)
        return super().handle_exception(exc)

    @extend_schema(parameters=[AgentQuerySerializer])
    @in_unit_of_work
    def list(self, request: Request) -> Response:
        """List the agents, newest first. Its own, each as it answers now, or those that others share with it."""
        wanted = self.query(AgentQuerySerializer)
        if wanted["shared"]:
            return self.page(shares.shared_agents(self.ctx), self._present_shared)
        return self.page(self.get_queryset().filter(tenant_id=self.ctx.tenant_id), self._present)

    @raises(SlugTakenError, CollectionNotFoundError, *choices.REFUSALS)
    @extend_schema(request=AgentRequestSerializer, responses={201: AgentSerializer})
    def create(self, request: Request) -> Response:
        """Create an agent. What is left out comes from the tenant's tier, then from the deployment."""
        wanted = self.accepted(AgentRequestSerializer)
        return self.once(lambda: self._create(wanted))

    @raises(AgentNotFoundError)
    @in_unit_of_work
    def retrieve(self, request: Request, pk: UUID) -> Response:
        """Show an agent. As it answers now; of one that another tenant shares, its name and who pays."""
        agent = shares.get_visible_agent(self.ctx, pk)
        present = self._present if agent.tenant_id == self.ctx.tenant_id else self._present_shared
        return Response(present([agent])[0])

    @raises(AgentNotFoundError, CollectionNotFoundError, *choices.REFUSALS)
    @extend_schema(request=AgentChangeSerializer)
    @in_unit_of_work
    def partial_update(self, request: Request, pk: UUID) -> Response:
        """Change an agent. What it says and how becomes a new version; runs keep the one they were asked of."""
        wanted = self.accepted(AgentChangeSerializer)
        agent = services.update_agent(self.ctx, pk, name=wanted.get("name"), changes=changes_of(wanted))
        return Response(self._present([agent])[0])

    @raises(AgentNotFoundError)
    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: UUID) -> Response:
        """Delete an agent with its shares. Conversations with it, and what they cost, stay."""
        services.delete_agent(self.ctx, pk)
        return Response(status=204)

    def _create(self, wanted: dict[str, Any]) -> Response:
        changes = changes_of(wanted)
        agent = services.create_agent(
            self.ctx,
            slug=wanted["slug"],
            name=wanted["name"],
            prompt=changes["prompt"],
            settings={name: value for name, value in changes.get("settings", {}).items() if value is not None},
            collection_ids=changes.get("collections", ()),
            fallback_models=changes["fallback_models"],
        )
        agent.refresh_from_db()
        return Response(self._present([agent])[0], status=201)

    def _present(self, rows: Sequence[Agent]) -> Sequence[dict[str, Any]]:
        versions = services.current_versions(rows)
        shown = [present_agent(row, versions[row.pk]) for row in rows]
        return list(AgentSerializer(shown, many=True).data)

    def _present_shared(self, rows: Sequence[Agent]) -> Sequence[dict[str, Any]]:
        by_agent = shares.shares_with(self.ctx, rows)
        shown = [present_agent(row, None, by_agent[row.pk]) for row in rows]
        return list(AgentSerializer(shown, many=True).data)


class ChatViewSet(TenantViewSet):
    """Questions to agents."""

    scope = Scope.CHAT
    serializer_class = RunSerializer

    @raises(
        AgentNotFoundError,
        CollectionNotFoundError,
        ConversationNotFoundError,
        EmbeddingSpaceMismatchError,
        PreferenceConflictError,
        *choices.REFUSALS,
    )
    @extend_schema(
        request=ChatRequestSerializer,
        responses={200: RunSerializer, 202: AcceptedSerializer},
        parameters=CHAT_PARAMETERS,
        operation_id="askAgent",
    )
    def create(self, request: Request) -> Response:
        """Ask an agent. 202: the run has begun, and is read at its address; 200 (`Prefer: wait=N`): it has finished.

        Whether the budget covers the answer shows while it is made: then the run fails with `budget_exceeded`.
        """
        body = self._body()
        ctx = contexts.chat_context(request, body)
        accepted = idempotency.in_one_transaction(ctx, request, lambda: self._start(ctx, body))
        seconds = waiting.wanted_seconds(request.headers.get("Prefer"))
        if not seconds:
            return accepted
        run = waiting.wait_for(ctx, UUID(str(accepted.data["run_id"])), seconds=seconds)
        if run.status in Run.unfinished:
            return accepted
        return Response(RunSerializer(run).data, headers=_kept(accepted))

    def _body(self) -> ChatBody:
        wanted = self.accepted(ChatRequestSerializer)
        most = entry.principal(self.request).limits.max_question_characters
        if len(wanted["message"]) > most:
            detail = f"The message has {len(wanted['message']):,} characters; your plan allows {most:,}."
            raise TooLargeError(detail, errors=[FieldError(field="message", code="too_large", detail=detail)])
        preferences = {f"llm_config.{name}": value for name, value in wanted.get("model_preferences", {}).items()}
        chosen = wanted.get("collections")
        return ChatBody(
            message=wanted["message"],
            agent_id=wanted.get("agent_id"),
            conversation_id=wanted.get("conversation_id"),
            preferences=preferences,
            collections=None if chosen is None else tuple(chosen),
        )

    def _start(self, ctx: Any, body: ChatBody) -> Response:
        run = runs.start_run(ctx, body.message)
        accepted = {
            "run_id": run.pk,
            "context_id": ctx.context_id,
            "session_id": run.session_id,
            "conversation_id": run.conversation_id,
            "status": run.status,
            "events_url": f"{reverse('run-detail', kwargs={'pk': run.pk}, request=self.request)}/events",
        }
        return Response(AcceptedSerializer(accepted).data, status=202)


class RunViewSet(TenantViewSet):
    """Runs: questions on their way to answers."""

    scope = Scope.CHAT
    # What was found for a run is much, and not shown.
    queryset = Run.objects.defer("passages")
    serializer_class = RunSerializer

    @in_unit_of_work
    def list(self, request: Request) -> Response:
        """List the runs, newest first. Finished ones stay until their conversation is deleted."""
        return self.page(self.get_queryset(), lambda rows: RunSerializer(rows, many=True).data)

    @raises(RunNotFoundError)
    @in_unit_of_work
    def retrieve(self, request: Request, pk: UUID) -> Response:
        """Show a run. How far it is; when it has succeeded its answer, when it has failed why."""
        return Response(RunSerializer(runs.get_run(self.ctx, pk)).data)

    @raises(RunNotFoundError)
    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: UUID) -> Response:
        """Cancel a run. One that has finished stays as it is.

        What was consumed is charged: an answer on its way at an estimate (`token_source: estimated`), as its call is
        ended within about a second. No other is made.
        """
        ctx = runs.in_scope(self.ctx, pk)
        return idempotency.in_one_transaction(
            ctx, self.request, lambda: Response(RunSerializer(runs.cancel_run(ctx, pk)).data)
        )


class ConversationViewSet(TenantViewSet):
    """Conversations with agents."""

    scope = Scope.CHAT
    queryset = Conversation.objects.all()
    serializer_class = ConversationSerializer

    @in_unit_of_work
    def list(self, request: Request) -> Response:
        """List the conversations, newest first. Their messages are read one conversation at a time."""
        return self.page(self.get_queryset(), lambda rows: ConversationSerializer(rows, many=True).data)

    @raises(ConversationNotFoundError)
    @in_unit_of_work
    def retrieve(self, request: Request, pk: UUID) -> Response:
        """Show a conversation. Its title is the beginning of its first question."""
        return Response(ConversationSerializer(runs.get_conversation(self.ctx, pk)).data)

    @raises(ConversationNotFoundError)
    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: UUID) -> Response:
        """Delete a conversation with its messages and runs. What it cost stays in the ledger."""
        runs.delete_conversation(self.ctx, pk)
        return Response(status=204)

    @raises(ConversationNotFoundError)
    @extend_schema(responses=MessageSerializer(many=True))
    @action(detail=True, ordering="id")
    @in_unit_of_work
    def messages(self, request: Request, pk: UUID) -> Response:
        """List a conversation's messages, oldest first. Questions and answers; an answer with its citations."""
        runs.get_conversation(self.ctx, pk)
        # Of its run an answer shows what it was made with, not all that was found for it.
        rows = Message.objects.filter(conversation=pk).select_related("run")
        rows = rows.defer("run__question", "run__passages", "run__answer", "run__citations")
        return self.page(rows, lambda found: MessageSerializer(found, many=True).data)


def _kept(response: Response) -> dict[str, str]:
    name = "Idempotent-Replayed"
    return {name: response.headers[name]} if name in response.headers else {}
