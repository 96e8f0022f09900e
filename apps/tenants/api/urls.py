from rest_framework.routers import SimpleRouter

from apps.tenants.api.views import ApiKeyViewSet, CredentialViewSet, MemberViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("api-keys", ApiKeyViewSet, basename="api-key")
router.register("credentials", CredentialViewSet, basename="credential")
router.register("members", MemberViewSet, basename="member")
urlpatterns = router.urls
