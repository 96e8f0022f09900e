"""Operators' pages of collections, documents, and what is searched."""

from collections.abc import Mapping
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin import display
from django.db.models import Func, IntegerField, QuerySet
from django.http import HttpRequest

from apps.collections import documents, services
from apps.collections.models import (
    Chunk,
    ChunkEmbedding,
    ChunkTerms,
    Collection,
    Document,
    EmbeddingBatch,
    EmbeddingSpace,
    TermStatistic,
)
from apps.core.admin_pages import WorkAdmin, list_url
from apps.core.errors import NoobleError
from apps.tenants import services as tenants
from apps.tenants.admin_columns import TenantFilter, TenantRecordAdmin
from apps.tenants.models import Tenant


@admin.register(Collection)
class CollectionAdmin(TenantRecordAdmin):
    list_display = ("id", "name", "slug", "tenant_id", "language", "created_at")
    list_filter = (TenantFilter,)
    search_fields = ("id",)
    editable = ("name",)

    def related(self, row: Collection) -> Mapping[str, str]:
        return {
            "spaces": list_url("collections.embeddingspace", collection=row.pk),
            "documents": list_url("collections.document", collection=row.pk),
        }

    def save_model(self, request: HttpRequest, obj: Collection, form: Any, change: Any) -> None:
        services.rename_collection(tenants.context_of_id(obj.tenant_id), obj.pk, name=obj.name)


@admin.register(EmbeddingSpace)
class EmbeddingSpaceAdmin(TenantRecordAdmin):
    list_display = ("id", "tenant_id", "collection", "provider", "model", "dimensions", "state", "chunks")
    list_filter = (TenantFilter,)
    search_fields = ("id", "collection")

    def related(self, row: EmbeddingSpace) -> Mapping[str, str]:
        return {"term statistics": list_url("collections.termstatistic", space=row.pk)}


@admin.register(Document)
class DocumentAdmin(TenantRecordAdmin, WorkAdmin):
    list_display = (
        "id",
        "name",
        "tenant_id",
        "collection",
        "status",
        "progress",
        "chunk_count",
        "error_code",
        "created_at",
    )
    list_filter = (*WorkAdmin.list_filter, TenantFilter)
    search_fields = ("id", "collection")
    actions = ("retry",)

    def related(self, row: Document) -> Mapping[str, str]:
        return {
            "batches": list_url("collections.embeddingbatch", document=row.pk),
            "chunks": list_url("collections.chunk", document=row.pk),
        }

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("collections.change_document")

    @admin.action(description="Try selected documents again", permissions=("retry",))
    def retry(self, request: HttpRequest, queryset: QuerySet[Document]) -> None:
        for document in queryset:
            try:
                self._retry(document)
            except NoobleError as error:
                self.message_user(request, f"{document}: {error.detail}", messages.ERROR)
            else:
                self.log_change(request, document, "Tried again.")
                self.message_user(request, f"{document}: is tried again.", messages.SUCCESS)

    def _retry(self, document: Document) -> None:
        tenant = Tenant.objects.select_related("tier").get(pk=document.tenant_id)
        documents.retry_document(tenants.context_of(tenant), document.pk, tier_defaults=tenant.tier.defaults)


@admin.register(EmbeddingBatch)
class EmbeddingBatchAdmin(TenantRecordAdmin, WorkAdmin):
    list_display = ("id", "tenant_id", "document", "ordinal", "status", "deliveries", "task_id")
    search_fields = ("id", "document")


@admin.register(Chunk)
class ChunkAdmin(TenantRecordAdmin):
    list_display = ("id", "tenant_id", "document", "ordinal", "page", "tokens")
    list_filter = (TenantFilter,)
    search_fields = ("id", "document")


@admin.register(ChunkEmbedding)
class ChunkEmbeddingAdmin(TenantRecordAdmin):
    """Of the vector only its length: the numbers say nothing to a reader, and are not even loaded."""

    list_display = ("__str__", "tenant_id", "document", "dimensions")
    search_fields = ("chunk",)
    hidden = frozenset({"embedding"})
    extra = ("dimensions",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        length = Func("embedding", function="vector_dims", output_field=IntegerField())
        rows: QuerySet[Any] = super().get_queryset(request).defer("embedding").annotate(length=length)
        return rows

    @display(description="dimensions")
    def dimensions(self, row: Any) -> int:
        return int(row.length)


@admin.register(ChunkTerms)
class ChunkTermsAdmin(TenantRecordAdmin):
    """Of the terms only their number: they are hashes."""

    list_display = ("__str__", "tenant_id", "document", "different_terms")
    search_fields = ("chunk",)
    hidden = frozenset({"terms"})
    extra = ("different_terms",)

    @display(description="different terms")
    def different_terms(self, row: ChunkTerms) -> int:
        return len(row.terms.indices())


@admin.register(TermStatistic)
class TermStatisticAdmin(TenantRecordAdmin):
    list_display = ("id", "tenant_id", "space", "term", "chunks")
    search_fields = ("space",)
