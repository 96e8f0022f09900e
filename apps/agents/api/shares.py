from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.agents import shares
from apps.agents.api import examples
from apps.agents.errors import AgentNotFoundError, AlreadySharedError, ShareNotFoundError
from apps.agents.models import AgentShare
from apps.agents.types import Payer
from apps.core.api.schema import example, raises
from apps.tenants.api.base import TenantViewSet, in_unit_of_work
from apps.tenants.types import Scope


@example(examples.SHARE_REQUEST)
class ShareRequestSerializer(serializers.Serializer[Any]):
    """Who may use an agent, and who pays for it."""

    tenant_id = serializers.UUIDField(help_text="The other tenant. It is not said whether there is such a tenant.")
    payer = serializers.ChoiceField(
        choices=Payer.choices, help_text="`owner`: the agent's owner, `consumer`: the tenant that asks."
    )


@example(examples.SHARE)
class ShareSerializer(serializers.ModelSerializer[AgentShare]):
    """A tenant that may use the agent."""

    tenant_id = serializers.UUIDField(source="consumer_id", help_text="The tenant that the agent is shared with.")

    class Meta:
        model = AgentShare
        fields = ["id", "tenant_id", "payer", "created_at"]
        read_only_fields = fields


class AgentShareViewSet(TenantViewSet):
    """The tenants that may use an agent."""

    scope = Scope.MANAGE
    queryset = AgentShare.objects.all()
    serializer_class = ShareSerializer

    @raises(AgentNotFoundError)
    @in_unit_of_work
    def list(self, request: Request, agent_id: UUID) -> Response:
        """List with whom an agent is shared, newest first. For its owner alone."""
        found = shares.shares_of(self.ctx, agent_id)
        return self.page(found, lambda rows: ShareSerializer(rows, many=True).data)

    @raises(AgentNotFoundError, AlreadySharedError)
    @extend_schema(request=ShareRequestSerializer, responses={201: ShareSerializer})
    def create(self, request: Request, agent_id: UUID) -> Response:
        """Share an agent with another tenant. It may ask it, and sees neither its prompt nor its collections."""
        wanted = self.accepted(ShareRequestSerializer)
        return self.once(lambda: self._share(agent_id, wanted))

    @raises(AgentNotFoundError, ShareNotFoundError)
    @extend_schema(responses={204: None})
    def destroy(self, request: Request, agent_id: UUID, pk: UUID) -> Response:
        """Take a share back. New questions are refused; runs that have begun end as they began."""
        shares.revoke_share(self.ctx, agent_id, pk)
        return Response(status=204)

    def _share(self, agent_id: UUID, wanted: dict[str, Any]) -> Response:
        share = shares.share_agent(self.ctx, agent_id, consumer_id=wanted["tenant_id"], payer=wanted["payer"])
        share.refresh_from_db()
        return Response(ShareSerializer(share).data, status=201)
