from rest_framework.routers import SimpleRouter

from apps.agents.api.views import AgentViewSet, ChatViewSet, ConversationViewSet, RunViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("agents", AgentViewSet, basename="agent")
router.register("chat", ChatViewSet, basename="chat")
router.register("runs", RunViewSet, basename="run")
router.register("conversations", ConversationViewSet, basename="conversation")
urlpatterns = router.urls
