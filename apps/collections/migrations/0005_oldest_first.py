"""A tenant's oldest waiting work is its oldest by id: what was put off keeps its place."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("collections", "0004_turns"),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="document",
            name="document_waiting",
        ),
        migrations.RemoveIndex(
            model_name="embeddingbatch",
            name="batch_waiting",
        ),
        migrations.AddIndex(
            model_name="document",
            index=models.Index(
                condition=models.Q(("status__in", ["pending", "parsing", "chunking"]), ("publications", 0)),
                fields=["tenant_id", "id"],
                name="document_waiting",
            ),
        ),
        migrations.AddIndex(
            model_name="embeddingbatch",
            index=models.Index(
                condition=models.Q(("status", "pending"), ("publications", 0)),
                fields=["tenant_id", "id"],
                name="batch_waiting",
            ),
        ),
    ]
