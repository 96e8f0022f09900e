from django.urls import path
from rest_framework.routers import SimpleRouter

from apps.collections.api.views import CollectionDocumentViewSet, CollectionViewSet, DocumentViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("collections", CollectionViewSet, basename="collection")
router.register("documents", DocumentViewSet, basename="document")
urlpatterns = [
    *router.urls,
    path(
        "collections/<uuid:collection_id>/documents",
        CollectionDocumentViewSet.as_view({"get": "list", "post": "create"}),
        name="collection-documents",
    ),
]
