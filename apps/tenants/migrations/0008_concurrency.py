"""How much of a tenant's work is under way at once: more for the greater tiers, unless an operator has said already."""

from typing import Any

from django.db import migrations

CONCURRENCY = {"advance": 10, "professional": 20, "enterprise": 50}


def add(apps: Any, schema_editor: Any) -> None:
    for tier in apps.get_model("tenants", "Tier").objects.using(schema_editor.connection.alias).all():
        if tier.name in CONCURRENCY:
            tier.defaults = {"processing_config.concurrency": CONCURRENCY[tier.name], **tier.defaults}
            tier.save()


class Migration(migrations.Migration):
    dependencies = [("tenants", "0007_credential_policies")]
    operations = [migrations.RunPython(add, migrations.RunPython.noop)]
