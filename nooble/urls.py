"""Every address of nooble, by room."""

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularSwaggerView

from apps.core.api.views import SchemaView
from nooble import health
from nooble.metrics import metrics

handler400 = "apps.core.api.exceptions.bad_request"
handler404 = "apps.core.api.exceptions.page_not_found"
urlpatterns = [
    path("health", health.alive, name="health"),
    path("health/ready", health.ready, name="ready"),
    path("metrics", metrics, name="metrics"),
    path("api/v1/", include("apps.tenants.api.urls")),
    path("api/v1/", include("apps.collections.api.urls")),
    path("api/v1/", include("apps.agents.api.urls")),
    path("api/v1/", include("apps.ledger.api.urls")),
    path("api/schema", SchemaView.as_view(), name="schema"),
    path(
        "api/docs",
        SpectacularSwaggerView.as_view(url_name="schema", permission_classes=[], authentication_classes=[]),
        name="docs",
    ),
    path("admin/", admin.site.urls),
]
