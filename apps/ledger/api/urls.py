from rest_framework.routers import SimpleRouter

from apps.ledger.api.views import BudgetViewSet, UsageViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("usage", UsageViewSet, basename="usage")
router.register("budget", BudgetViewSet, basename="budget")
urlpatterns = router.urls
