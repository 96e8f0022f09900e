from django.apps import AppConfig


class TenantsConfig(AppConfig):
    name = "apps.tenants"
    verbose_name = "Tenants"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Registers how its authentication stands in the OpenAPI schema.
        from apps.tenants import schema  # noqa: F401, PLC0415
