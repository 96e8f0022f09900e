"""Agents that are shared with other tenants."""

from django.db import migrations, models
from django.db.models import F, Q
from django.db.models.deletion import DO_NOTHING
from django.db.models.functions import Now

import apps.core.ids

# The owner writes its shares; the consumer reads its own, and through it the agent's name, not what is in its versions.
PROTECT = """
CALL nooble_protect('agents_agentshare', 'owner');
ALTER POLICY tenant_read ON agents_agentshare USING ((SELECT nooble_consumer()) IN (tenant_id, consumer_id));
CALL nooble_reference('agents_agentshare', 'agent_id', 'agents_agent', 'CASCADE');
CREATE POLICY shared_read ON agents_agent FOR SELECT
    USING (id IN (SELECT s.agent_id FROM agents_agentshare s WHERE s.consumer_id = (SELECT nooble_consumer())));
"""
UNPROTECT = """
DROP POLICY shared_read ON agents_agent;
ALTER TABLE agents_agentshare DROP CONSTRAINT agents_agentshare_agent_id_tenant;
CALL nooble_unprotect('agents_agentshare');
"""


class Migration(migrations.Migration):
    dependencies = [("agents", "0002_policies")]
    operations = [
        migrations.CreateModel(
            name="AgentShare",
            fields=[
                (
                    "id",
                    models.UUIDField(default=apps.core.ids.new_id, editable=False, primary_key=True, serialize=False),
                ),
                ("tenant_id", models.UUIDField(editable=False)),
                ("consumer_id", models.UUIDField()),
                (
                    "payer",
                    models.CharField(
                        choices=[("owner", "The agent's owner"), ("consumer", "The tenant that asks")], max_length=16
                    ),
                ),
                ("created_at", models.DateTimeField(db_default=Now(), editable=False)),
                (
                    "agent",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=DO_NOTHING,
                        related_name="shares",
                        to="agents.agent",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [models.Index(fields=["consumer_id", "agent"], name="share_with_consumer")],
                "constraints": [
                    models.UniqueConstraint(fields=("agent", "consumer_id"), name="one_share_per_agent_and_consumer"),
                    models.CheckConstraint(
                        condition=Q(("consumer_id", F("tenant_id")), _negated=True), name="share_with_another_tenant"
                    ),
                    models.CheckConstraint(condition=Q(payer__in=["owner", "consumer"]), name="share_payer"),
                ],
            },
        ),
        migrations.RunSQL(PROTECT, UNPROTECT),
    ]
