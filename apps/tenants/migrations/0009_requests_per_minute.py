from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0008_concurrency"),
    ]

    operations = [
        migrations.AddField(
            model_name="tier",
            name="requests_per_minute",
            field=models.PositiveIntegerField(
                blank=True, help_text="Of a tenant, with all of its keys together. Empty: no limit.", null=True
            ),
        ),
    ]
