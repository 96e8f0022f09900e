"""The four tiers that a deployment starts with; operators change their limits in the admin."""

from typing import Any

from django.db import migrations

MILLION = 1_000_000
MEBIBYTE = 1024 * 1024
TIERS: list[dict[str, Any]] = [
    {"name": "free", "title": "Free", "monthly_token_limit": MILLION, "max_upload_bytes": 10 * MEBIBYTE},
    {"name": "advance", "title": "Advance", "monthly_token_limit": 10 * MILLION, "max_upload_bytes": 20 * MEBIBYTE},
    {
        "name": "professional",
        "title": "Professional",
        "monthly_token_limit": 100 * MILLION,
        "max_upload_bytes": 20 * MEBIBYTE,
        "max_output_tokens": 8000,
    },
    {
        "name": "enterprise",
        "title": "Enterprise",
        "monthly_token_limit": None,
        "max_upload_bytes": 20 * MEBIBYTE,
        "max_output_tokens": 16000,
    },
]


def add(apps: Any, schema_editor: Any) -> None:
    rows = apps.get_model("tenants", "Tier").objects.using(schema_editor.connection.alias)
    for position, tier in enumerate(TIERS):
        rows.get_or_create(name=tier["name"], defaults={**tier, "position": position})


class Migration(migrations.Migration):
    dependencies = [("tenants", "0002_policies")]
    # Left in place backwards: tenants may be on them.
    operations = [migrations.RunPython(add, migrations.RunPython.noop)]
