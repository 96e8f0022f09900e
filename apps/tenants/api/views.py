from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core.api.schema import raises
from apps.core.errors import NotFoundError
from apps.tenants import credentials, members, services
from apps.tenants.api.base import TenantViewSet, in_unit_of_work
from apps.tenants.api.serializers import (
    ApiKeyRequestSerializer,
    ApiKeySerializer,
    CredentialRequestSerializer,
    CredentialSerializer,
    IssuedApiKeySerializer,
    MemberRequestSerializer,
    MemberSerializer,
)
from apps.tenants.errors import AddressNotSetError
from apps.tenants.members import AlreadyMemberError
from apps.tenants.models import ApiKey, Member, ProviderCredential
from apps.tenants.types import Scope


class ApiKeyViewSet(TenantViewSet):
    """The tenant's API keys."""

    scope = Scope.MANAGE
    queryset = ApiKey.objects.all()
    serializer_class = ApiKeySerializer

    @in_unit_of_work
    def list(self, request: Request) -> Response:
        """List the API keys, newest first. Their secrets are not stored and not shown."""
        return self.page(self.get_queryset(), lambda rows: ApiKeySerializer(rows, many=True).data)

    @extend_schema(request=ApiKeyRequestSerializer, responses={201: IssuedApiKeySerializer})
    def create(self, request: Request) -> Response:
        """Create an API key. The answer is the only place where it is ever shown; a replay shows it as null."""
        wanted = self.accepted(ApiKeyRequestSerializer)
        return self.once(lambda: self._issue(wanted), secrets=("key",))

    @raises(NotFoundError)
    @extend_schema(responses={204: None}, operation_id="revokeApiKey")
    def destroy(self, request: Request, pk: UUID) -> Response:
        """Revoke an API key. It stays in the list, and opens nothing any more."""
        services.revoke_key(self.ctx, pk)
        return Response(status=204)

    def _issue(self, wanted: dict[str, Any]) -> Response:
        row, key = services.issue_key(self.ctx, **wanted)
        row.refresh_from_db()
        return Response({**ApiKeySerializer(row).data, "key": key}, status=201)


class CredentialViewSet(TenantViewSet):
    """The tenant's own keys for providers, by the provider's name. They go in and never come out."""

    scope = Scope.MANAGE
    queryset = ProviderCredential.objects.all()
    serializer_class = CredentialSerializer
    lookup_field = "provider"
    lookup_value_converter = "slug"
    http_method_names = ["get", "put", "delete", "head"]

    @in_unit_of_work
    def list(self, request: Request) -> Response:
        """List the tenant's own keys for providers, newest first. The keys themselves are not shown."""
        return self.page(self.get_queryset(), lambda rows: CredentialSerializer(rows, many=True).data)

    @raises(NotFoundError)
    @in_unit_of_work
    def retrieve(self, request: Request, provider: str) -> Response:
        """Show what is known of the tenant's own key for a provider. The key itself is not shown."""
        return Response(CredentialSerializer(credentials.find(self.ctx, provider)).data)

    @raises(NotFoundError, AddressNotSetError)
    @extend_schema(
        request=CredentialRequestSerializer,
        responses={200: CredentialSerializer, 201: CredentialSerializer},
        operation_id="storeCredential",
    )
    def update(self, request: Request, provider: str) -> Response:
        """Store the tenant's own key for a provider. What the tenant pays for is called with it from then on."""
        wanted = self.accepted(CredentialRequestSerializer)
        row, is_new = credentials.store(self.ctx, provider=provider, **wanted)
        return Response(CredentialSerializer(row).data, status=201 if is_new else 200)

    @raises(NotFoundError)
    @extend_schema(responses={204: None})
    def destroy(self, request: Request, provider: str) -> Response:
        """Forget the tenant's own key for a provider. The deployment's is used from then on, if there is one."""
        credentials.remove(self.ctx, provider)
        return Response(status=204)


class MemberViewSet(TenantViewSet):
    """The people of the tenant, and the invitations that wait for an operator."""

    scope = Scope.MANAGE
    queryset = Member.objects.select_related("user")
    serializer_class = MemberSerializer

    @in_unit_of_work
    def list(self, request: Request) -> Response:
        """List the tenant's members, newest first. They sign in with their own accounts."""
        return self.page(self.get_queryset(), lambda rows: MemberSerializer(rows, many=True).data)

    @raises(AlreadyMemberError)
    @extend_schema(request=MemberRequestSerializer, responses={201: MemberSerializer})
    def create(self, request: Request) -> Response:
        """Invite a person as a member. An operator says whose account it is, or creates it, and so accepts."""
        wanted = self.accepted(MemberRequestSerializer)
        return self.once(lambda: self._invite(wanted))

    @raises(NotFoundError)
    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: UUID) -> Response:
        """Remove a member, or an invitation. The account stays."""
        members.remove_member(self.ctx, pk)
        return Response(status=204)

    def _invite(self, wanted: dict[str, Any]) -> Response:
        member = members.invite_member(self.ctx, **wanted)
        member.refresh_from_db()
        return Response(MemberSerializer(member).data, status=201)
