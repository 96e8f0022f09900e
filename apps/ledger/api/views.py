from django.db.models import Q, QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.ledger import budgets, statistics
from apps.ledger.api.serializers import BudgetSerializer, EntrySerializer, UsageQuerySerializer, UsageSerializer
from apps.ledger.models import Budget, Entry
from apps.ledger.statistics import UsageQuery
from apps.tenants.api.base import TenantViewSet, in_unit_of_work
from apps.tenants.types import Scope


class UsageViewSet(TenantViewSet):
    """What was used, and the ledger that says so."""

    scope = Scope.USAGE
    queryset = Entry.objects.none()
    serializer_class = UsageSerializer
    filter_backends = []

    @extend_schema(parameters=[UsageQuerySerializer], responses=UsageSerializer, operation_id="usage")
    @in_unit_of_work
    def list(self, request: Request) -> Response:
        """Sums by day or month, in the payer's time zone."""
        query = UsageQuery(**self.query(UsageQuerySerializer))
        shown = {
            "from": query.start,
            "to": query.end,
            "granularity": query.granularity,
            "group_by": query.group_by,
            **statistics.usage(self.ctx, query),
        }
        return Response(shown)

    @extend_schema(responses=EntrySerializer(many=True))
    @action(detail=False)
    @in_unit_of_work
    def entries(self, request: Request) -> Response:
        """The ledger itself, newest first: every entry in which the tenant is payer, owner or consumer."""
        return self.page(self._entries(), lambda rows: EntrySerializer(rows, many=True).data)

    def _entries(self) -> QuerySet[Entry]:
        # One of three indexes for each role; the policy alone would have to scan.
        tenant = self.ctx.tenant_id
        return Entry.objects.filter(Q(payer_tenant_id=tenant) | Q(owner_tenant_id=tenant) | Q(tenant_id=tenant))


class BudgetViewSet(TenantViewSet):
    """The budget."""

    scope = Scope.USAGE
    queryset = Budget.objects.none()
    serializer_class = BudgetSerializer

    @extend_schema(responses=BudgetSerializer, operation_id="budget")
    @in_unit_of_work
    def list(self, request: Request) -> Response:
        """Limit, spent, held and available, this month."""
        return Response(BudgetSerializer(budgets.current(self.ctx)).data)
