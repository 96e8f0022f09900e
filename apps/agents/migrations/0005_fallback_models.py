"""An agent without fallback models of its own has null; an empty list means none. Until now it meant the former."""

import django.contrib.postgres.fields
from django.db import migrations, models

# Rewritten, not updated: no policy lets the owner's role see the rows.
ALLOW_NULL = """
ALTER TABLE agents_agentversion
    ALTER COLUMN fallback_models DROP NOT NULL,
    ALTER COLUMN fallback_models TYPE varchar(200)[] USING nullif(fallback_models, '{}');
"""
FORBID_NULL = """
ALTER TABLE agents_agentversion
    ALTER COLUMN fallback_models TYPE varchar(200)[] USING coalesce(fallback_models, '{}'),
    ALTER COLUMN fallback_models SET NOT NULL;
"""


class Migration(migrations.Migration):
    dependencies = [("agents", "0004_turns")]
    operations = [
        migrations.RunSQL(
            ALLOW_NULL,
            FORBID_NULL,
            state_operations=[
                migrations.AlterField(
                    model_name="agentversion",
                    name="fallback_models",
                    field=django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=200), blank=True, null=True, size=None
                    ),
                )
            ],
        )
    ]
