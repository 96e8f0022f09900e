"""A tenant's share of the queues, decision 14: its runs that are under way, and those that wait for their turn."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("agents", "0003_shares"),
    ]

    operations = [
        migrations.AlterField(
            model_name="run",
            name="publications",
            field=models.PositiveSmallIntegerField(default=0),
        ),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(
                condition=models.Q(("status__in", ["queued", "retrieving", "generating"]), ("publications__gt", 0)),
                fields=["tenant_id"],
                name="run_under_way",
            ),
        ),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(
                condition=models.Q(("status__in", ["queued", "retrieving", "generating"]), ("publications", 0)),
                fields=["tenant_id", "available_at", "id"],
                name="run_waiting",
            ),
        ),
    ]
