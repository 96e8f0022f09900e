from django.urls import path
from rest_framework.routers import SimpleRouter

from apps.agents.api.shares import AgentShareViewSet
from apps.agents.api.views import AgentViewSet, ChatViewSet, ConversationViewSet, RunViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("agents", AgentViewSet, basename="agent")
router.register("chat", ChatViewSet, basename="chat")
router.register("runs", RunViewSet, basename="run")
router.register("conversations", ConversationViewSet, basename="conversation")
urlpatterns = [
    *router.urls,
    path(
        "agents/<uuid:agent_id>/shares",
        AgentShareViewSet.as_view({"get": "list", "post": "create"}),
        name="agent-shares",
    ),
    path(
        "agents/<uuid:agent_id>/shares/<uuid:pk>",
        AgentShareViewSet.as_view({"delete": "destroy"}),
        name="agent-share",
    ),
]
