"""The operators' admin: the one site whose pages see every tenant."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.admin.apps import AdminConfig
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import SimpleTemplateResponse
from unfold.sites import UnfoldAdminSite

from apps.core.db import operator_scope

View = Callable[..., HttpResponseBase]


class OperatorAdminConfig(AdminConfig):
    """``django.contrib.admin``, with the operators' site as the default one."""

    default_site = "nooble.admin_site.OperatorAdminSite"


class OperatorAdminSite(UnfoldAdminSite):  # type: ignore[misc]
    """Every page is one transaction in the operator's scope, opened once Django knows that the user is staff.

    An error undoes what the page did. Signing in and out needs no scope: nothing they touch belongs to a tenant.
    """

    def admin_view(self, view: View, cacheable: bool = False) -> View:  # Django's signature
        wrapped: View = super().admin_view(_in_operator_scope(view), cacheable)
        return wrapped


def _in_operator_scope(view: View) -> View:
    @wraps(view)
    def scoped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with operator_scope(f"admin: {request.user} {request.method} {request.path}"):
            response = view(request, *args, **kwargs)
            # Templates read rows: a response that Django would render later is rendered before the scope ends.
            return response.render() if isinstance(response, SimpleTemplateResponse) else response

    return scoped
