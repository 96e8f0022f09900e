"""How many requests a tenant of each tier may make in a minute, unless an operator has said already.

They guard the deployment against a client that runs wild, not against a busy one: the smallest is ten in a second, for a
minute on end, and no figure of the books, of a benchmark or of the demonstration depends on them. What a tenant's work
costs is bounded by its budget and its share of the queues.
"""

from typing import Any

from django.db import migrations

REQUESTS_PER_MINUTE = {"free": 600, "advance": 3_000, "professional": 6_000, "enterprise": 30_000}


def add(apps: Any, schema_editor: Any) -> None:
    tiers = apps.get_model("tenants", "Tier").objects.using(schema_editor.connection.alias)
    for name, limit in REQUESTS_PER_MINUTE.items():
        tiers.filter(name=name, requests_per_minute=None).update(requests_per_minute=limit)


class Migration(migrations.Migration):
    dependencies = [("tenants", "0009_requests_per_minute")]
    operations = [migrations.RunPython(add, migrations.RunPython.noop)]
