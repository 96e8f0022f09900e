"""A tenant's share of the queues, decision 14: its documents and batches under way, and those that wait for their turn."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("collections", "0003_search"),
    ]

    operations = [
        migrations.AlterField(
            model_name="document",
            name="publications",
            field=models.PositiveSmallIntegerField(default=0),
        ),
        migrations.AlterField(
            model_name="embeddingbatch",
            name="publications",
            field=models.PositiveSmallIntegerField(default=0),
        ),
        migrations.AddIndex(
            model_name="document",
            index=models.Index(
                condition=models.Q(("status__in", ["pending", "parsing", "chunking"]), ("publications__gt", 0)),
                fields=["tenant_id"],
                name="document_under_way",
            ),
        ),
        migrations.AddIndex(
            model_name="document",
            index=models.Index(
                condition=models.Q(("status__in", ["pending", "parsing", "chunking"]), ("publications", 0)),
                fields=["tenant_id", "available_at", "id"],
                name="document_waiting",
            ),
        ),
        migrations.AddIndex(
            model_name="embeddingbatch",
            index=models.Index(
                condition=models.Q(("status", "pending"), ("publications__gt", 0)),
                fields=["tenant_id"],
                name="batch_under_way",
            ),
        ),
        migrations.AddIndex(
            model_name="embeddingbatch",
            index=models.Index(
                condition=models.Q(("status", "pending"), ("publications", 0)),
                fields=["tenant_id", "available_at", "id"],
                name="batch_waiting",
            ),
        ),
    ]
