"""How much of a tenant's work is under way at once: more for the greater tiers, unless an operator has said already."""

from typing import Any

from django.db import migrations

CONCURRENCY = {"advance": 10, "professional": 20, "enterprise": 50}


SETTING = "processing_config.concurrency"


def add(apps: Any, schema_editor: Any) -> None:
    for tier in _tiers(apps, schema_editor):
        tier.defaults = {SETTING: CONCURRENCY[tier.name], **tier.defaults}
        tier.save(update_fields=["defaults"])


def remove(apps: Any, schema_editor: Any) -> None:
    """The code before refuses a tier that has it. What an operator has set is left for the operator to take back."""
    for tier in _tiers(apps, schema_editor):
        if tier.defaults.get(SETTING) == CONCURRENCY[tier.name]:
            del tier.defaults[SETTING]
            tier.save(update_fields=["defaults"])


def _tiers(apps: Any, schema_editor: Any) -> Any:
    return apps.get_model("tenants", "Tier").objects.using(schema_editor.connection.alias).filter(name__in=CONCURRENCY)


class Migration(migrations.Migration):
    dependencies = [("tenants", "0007_credential_policies")]
    operations = [migrations.RunPython(add, remove)]
