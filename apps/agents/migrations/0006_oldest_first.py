"""A tenant's oldest waiting work is its oldest by id: what was put off keeps its place."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("agents", "0005_fallback_models"),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="run",
            name="run_waiting",
        ),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(
                condition=models.Q(("status__in", ["queued", "retrieving", "generating"]), ("publications", 0)),
                fields=["tenant_id", "id"],
                name="run_waiting",
            ),
        ),
    ]
