from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.core import clock
from apps.ledger import budgets, statistics
from apps.ledger.api.serializers import (
    BudgetSerializer,
    DiscrepancyQuerySerializer,
    DiscrepancySerializer,
    EntrySerializer,
    UsageQuerySerializer,
    UsageSerializer,
)
from apps.ledger.models import Discrepancy, Entry
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

    def _entries(self) -> "_Entries":
        roles = ("tenant_id", "owner_tenant_id", "payer_tenant_id")
        return _Entries([Entry.objects.filter(**{role: self.ctx.tenant_id}) for role in roles])


class _Entries:
    """Entries that any of several queries finds, as pagination asks for them: ordered, filtered, sliced.

    Each query reads no more than its page, in the order of its own index. One query with OR would read all of a
    tenant's entries and sort them.
    """

    def __init__(self, parts: Sequence[QuerySet[Entry]], ordering: Sequence[str] = ()) -> None:
        self._parts, self._ordering = parts, ordering

    def order_by(self, *names: str) -> "_Entries":
        return _Entries([part.order_by(*names) for part in self._parts], names)

    def filter(self, **conditions: Any) -> "_Entries":
        return _Entries([part.filter(**conditions) for part in self._parts], self._ordering)

    def __getitem__(self, page: slice) -> QuerySet[Entry]:
        first, *others = (part[: page.stop] for part in self._parts)
        return first.union(*others).order_by(*self._ordering)[page]


class BudgetViewSet(TenantViewSet):
    """The budget."""

    scope = Scope.USAGE
    serializer_class = BudgetSerializer

    @in_unit_of_work
    def retrieve(self, request: Request) -> Response:
        """Show this month's budget. Limit, spent, held and available tokens; what is held may still be spent."""
        return Response(BudgetSerializer(budgets.current(self.ctx)).data)


class DiscrepancyViewSet(TenantViewSet):
    """What must be looked at in the books."""

    scope = Scope.USAGE
    queryset = Discrepancy.objects.all()
    serializer_class = DiscrepancySerializer

    @extend_schema(parameters=[DiscrepancyQuerySerializer])
    @in_unit_of_work
    def list(self, request: Request) -> Response:
        """List what the till and reconciliation found, newest first. In the books of the tenant as payer."""
        wanted = self.query(DiscrepancyQuerySerializer)
        rows = self.get_queryset().filter(tenant_id=self.ctx.tenant_id, **wanted)
        return self.page(rows, lambda found: DiscrepancySerializer(found, many=True).data)
