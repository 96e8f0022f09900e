from rest_framework.routers import SimpleRouter

from apps.tenants.api.views import ApiKeyViewSet, MemberViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("api-keys", ApiKeyViewSet, basename="api-key")
router.register("members", MemberViewSet, basename="member")
urlpatterns = router.urls
