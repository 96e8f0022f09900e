from django.urls import path

from apps.ledger.api.events import UsageEventViewSet
from apps.ledger.api.views import BudgetViewSet, DiscrepancyViewSet, EntryViewSet, UsageViewSet

urlpatterns = [
    path("usage", UsageViewSet.as_view({"get": "retrieve"}), name="usage"),
    path("usage/entries", EntryViewSet.as_view({"get": "list"}), name="usage-entries"),
    path("usage/events", UsageEventViewSet.as_view({"post": "create"}), name="usage-events"),
    path("budget", BudgetViewSet.as_view({"get": "retrieve"}), name="budget"),
    path("discrepancies", DiscrepancyViewSet.as_view({"get": "list"}), name="discrepancies"),
]
