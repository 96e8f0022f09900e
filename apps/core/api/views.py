"""The API's description of itself, as it is served."""

from functools import cache
from typing import Any

from django.http import HttpResponse
from django.utils.decorators import method_decorator
from django.views.decorators.http import conditional_page
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework.request import Request


@method_decorator(conditional_page, name="dispatch")
class SchemaView(SpectacularAPIView):
    """The OpenAPI schema, for everybody, as YAML or JSON. With its ETag a client asks whether it changed."""

    permission_classes = []
    authentication_classes = []

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        renderer = request.accepted_renderer
        shown = f'inline; filename="nooble.{renderer.format}"'
        return HttpResponse(
            _rendered(renderer.format), content_type=renderer.media_type, headers={"Content-Disposition": shown}
        )


@cache
def _rendered(form: str) -> str | bytes:
    """The schema as `yaml` or `json`. It depends on code and settings alone, so a process makes it once, in 0.2 s.

    What drf-spectacular would read from the address (`lang`, `version`) is not: there is one language and one version.
    """
    schema = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
    renderer = next(each for each in SpectacularAPIView.renderer_classes if each.format == form)
    return renderer().render(schema, renderer_context={})
