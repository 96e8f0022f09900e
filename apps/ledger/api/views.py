from django.db.models import Q, QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import clock
from apps.ledger import budgets, statistics
from apps.ledger.api.serializers import BudgetSerializer, EntrySerializer, UsageQuerySerializer, UsageSerializer
from apps.ledger.models import Entry
from apps.ledger.statistics import UsageQuery
from apps.tenants.api.base import TenantViewSet, in_unit_of_work
from apps.tenants.models import Tenant
from apps.tenants.types import Scope


class UsageViewSet(TenantViewSet):
    """What was used."""

    scope = Scope.USAGE
    serializer_class = UsageSerializer

    @extend_schema(parameters=[UsageQuerySerializer])
    @in_unit_of_work
    def retrieve(self, request: Request) -> Response:
        """Sum up what was used. By day or month, in the payer's time zone, and by any of the groups."""
        zone = Tenant.objects.values_list("time_zone", flat=True).get(pk=self.ctx.tenant_id)
        query = UsageQuery(**self.query(UsageQuerySerializer, today=clock.today(zone)))
        return Response(UsageSerializer({**vars(query), **statistics.usage(self.ctx, query)}).data)


class EntryViewSet(TenantViewSet):
    """The ledger itself."""

    scope = Scope.USAGE
    queryset = Entry.objects.none()
    serializer_class = EntrySerializer

    @in_unit_of_work
    def list(self, request: Request) -> Response:
        """List the ledger's entries, newest first. Every one in which the tenant is payer, owner or consumer."""
        return self.page(self._entries(), lambda rows: EntrySerializer(rows, many=True).data)

    def _entries(self) -> QuerySet[Entry]:
        # One of three indexes for each role; the policy alone would have to scan.
        tenant = self.ctx.tenant_id
        return Entry.objects.filter(Q(payer_tenant_id=tenant) | Q(owner_tenant_id=tenant) | Q(tenant_id=tenant))


class BudgetViewSet(TenantViewSet):
    """The budget."""

    scope = Scope.USAGE
    serializer_class = BudgetSerializer

    @in_unit_of_work
    def retrieve(self, request: Request) -> Response:
        """Show this month's budget. Limit, spent, held and available tokens; what is held may still be spent."""
        return Response(BudgetSerializer(budgets.current(self.ctx)).data)
