from django.apps import AppConfig


class AgentsConfig(AppConfig):
    name = "apps.agents"
    verbose_name = "Agents"
    default_auto_field = "django.db.models.BigAutoField"
