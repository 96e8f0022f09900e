import uuid

import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.comparison
import django.db.models.functions.datetime
import django.db.models.lookups
from django.db import migrations, models

import apps.core.constraints
import apps.core.ids


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="ReconciliationRun",
            fields=[
                (
                    "id",
                    models.UUIDField(default=apps.core.ids.new_id, editable=False, primary_key=True, serialize=False),
                ),
                ("started_by", models.CharField(max_length=150)),
                ("started_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("finished_at", models.DateTimeField(null=True)),
                ("read", models.JSONField(default=dict)),
                ("found", models.JSONField(default=dict)),
                ("repaired", models.JSONField(default=dict)),
                ("error", models.TextField(blank=True, default="")),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="Budget",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("tenant_id", models.UUIDField()),
                ("starts_on", models.DateField()),
                ("limit_tokens", models.BigIntegerField(null=True)),
                ("spent_tokens", models.BigIntegerField(default=0)),
                ("held_tokens", models.BigIntegerField(default=0)),
                ("day", models.DateField(null=True)),
                ("day_spent_tokens", models.BigIntegerField(default=0)),
                ("day_held_tokens", models.BigIntegerField(default=0)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("tenant_id", "starts_on"), name="one_budget_per_month"),
                    models.CheckConstraint(
                        condition=models.Q(("day_held_tokens__gte", 0), ("held_tokens__gte", 0)),
                        name="budget_held_not_negative",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Discrepancy",
            fields=[
                (
                    "id",
                    models.UUIDField(default=apps.core.ids.new_id, editable=False, primary_key=True, serialize=False),
                ),
                ("tenant_id", models.UUIDField()),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("idempotency_conflict", "A key came again with other content"),
                            ("overage", "A call cost more than its hold"),
                            ("lost_attempt", "A hold was given up without proof"),
                            ("daily_statistics", "Entries and daily statistics differ"),
                            ("monthly_statistics", "Daily and monthly statistics differ"),
                            ("budget_spent", "Billable entries and the budget's spent differ"),
                            ("budget_held", "Holds of attempts and the budget's held differ"),
                            ("operation_without_entry", "A done operation has no entry"),
                            ("entry_without_operation", "An entry's operation is not done"),
                            ("open_past_deadline", "An attempt is open past its deadline"),
                            ("unknown_past_grace", "An attempt is unknown past its grace period"),
                            ("hold_without_operation", "An ended operation still holds"),
                            ("task_result", "A task's result and its operations differ"),
                            ("unpriced_model", "A model has no price"),
                        ],
                        max_length=32,
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[("open", "Open"), ("repaired", "Repaired"), ("resolved", "Resolved")],
                        default="open",
                        max_length=16,
                    ),
                ),
                ("subject", models.CharField(max_length=300)),
                ("amount_tokens", models.BigIntegerField(default=0)),
                ("evidence", models.JSONField(default=dict)),
                ("times_seen", models.PositiveIntegerField(default=1)),
                ("first_seen_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("last_seen_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("resolved_at", models.DateTimeField(null=True)),
                ("resolution", models.CharField(blank=True, default="", max_length=500)),
            ],
            options={
                "verbose_name_plural": "discrepancies",
                "indexes": [
                    models.Index(
                        condition=models.Q(("state", "open")), fields=["last_seen_at"], name="discrepancy_open"
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant_id", "kind", "subject"), name="one_discrepancy_per_subject"
                    ),
                    models.CheckConstraint(
                        condition=apps.core.constraints.OneOf(
                            "kind",
                            [
                                "idempotency_conflict",
                                "overage",
                                "lost_attempt",
                                "daily_statistics",
                                "monthly_statistics",
                                "budget_spent",
                                "budget_held",
                                "operation_without_entry",
                                "entry_without_operation",
                                "open_past_deadline",
                                "unknown_past_grace",
                                "hold_without_operation",
                                "task_result",
                                "unpriced_model",
                            ],
                        ),
                        name="discrepancy_kind",
                    ),
                    models.CheckConstraint(
                        condition=apps.core.constraints.OneOf("state", ["open", "repaired", "resolved"]),
                        name="discrepancy_state",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Operation",
            fields=[
                ("lease_epoch", models.PositiveIntegerField(default=0)),
                ("lease_expires_at", models.DateTimeField(null=True)),
                ("tenant_id", models.UUIDField()),
                ("owner_tenant_id", models.UUIDField()),
                ("payer_tenant_id", models.UUIDField()),
                (
                    "id",
                    models.UUIDField(default=apps.core.ids.new_id, editable=False, primary_key=True, serialize=False),
                ),
                ("idempotency_key", models.CharField(max_length=255)),
                ("payload_hash", models.CharField(max_length=64)),
                (
                    "token_type",
                    models.CharField(
                        choices=[("llm", "Language model"), ("embedding", "Embedding"), ("fine_tuning", "Fine-tuning")],
                        max_length=16,
                    ),
                ),
                (
                    "operation",
                    models.CharField(
                        choices=[
                            ("query", "Query"),
                            ("chat", "Chat"),
                            ("summarize", "Summarize"),
                            ("vector_search", "Vector search"),
                            ("generation", "Generation"),
                            ("classification", "Classification"),
                            ("extraction", "Extraction"),
                            ("batch", "Batch"),
                            ("internal", "Internal"),
                            ("embedding", "Embedding"),
                        ],
                        max_length=16,
                    ),
                ),
                ("billable", models.BooleanField(default=True)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("done", "Done"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="pending",
                        max_length=16,
                    ),
                ),
                ("result", models.JSONField(null=True)),
                ("error_code", models.CharField(blank=True, default="", max_length=64)),
                ("error_detail", models.TextField(blank=True, default="")),
                ("agent_id", models.UUIDField(null=True)),
                ("collection_id", models.UUIDField(null=True)),
                ("document_id", models.UUIDField(null=True)),
                ("conversation_id", models.UUIDField(null=True)),
                ("run_id", models.UUIDField(null=True)),
                ("context_id", models.UUIDField(null=True)),
                ("metadata", models.JSONField(default=dict)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("finished_at", models.DateTimeField(null=True)),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("state", "pending")), fields=["lease_expires_at"], name="operation_expired"
                    ),
                    models.Index(
                        condition=models.Q(("run_id__isnull", False)), fields=["run_id"], name="operation_of_run"
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant_id", "idempotency_key"), name="one_operation_per_key"),
                    models.CheckConstraint(
                        condition=apps.core.constraints.OneOf("token_type", ["llm", "embedding", "fine_tuning"]),
                        name="operation_token_type",
                    ),
                    models.CheckConstraint(
                        condition=apps.core.constraints.OneOf(
                            "operation",
                            [
                                "query",
                                "chat",
                                "summarize",
                                "vector_search",
                                "generation",
                                "classification",
                                "extraction",
                                "batch",
                                "internal",
                                "embedding",
                            ],
                        ),
                        name="operation_kind",
                    ),
                    models.CheckConstraint(
                        condition=apps.core.constraints.OneOf("state", ["pending", "done", "failed", "cancelled"]),
                        name="operation_state",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Attempt",
            fields=[
                ("tenant_id", models.UUIDField()),
                ("owner_tenant_id", models.UUIDField()),
                ("payer_tenant_id", models.UUIDField()),
                ("fresh_input_tokens", models.BigIntegerField(default=0)),
                ("cached_input_tokens", models.BigIntegerField(default=0)),
                ("cache_write_tokens", models.BigIntegerField(default=0)),
                ("plain_output_tokens", models.BigIntegerField(default=0)),
                ("reasoning_tokens", models.BigIntegerField(default=0)),
                (
                    "id",
                    models.UUIDField(default=apps.core.ids.new_id, editable=False, primary_key=True, serialize=False),
                ),
                ("number", models.PositiveSmallIntegerField()),
                ("epoch", models.PositiveIntegerField()),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("open", "Open"),
                            ("settled", "Settled"),
                            ("void", "Void"),
                            ("unknown", "Unknown"),
                            ("lost", "Lost"),
                        ],
                        default="open",
                        max_length=16,
                    ),
                ),
                ("provider", models.CharField(max_length=64)),
                ("model", models.CharField(max_length=128)),
                ("model_family", models.CharField(blank=True, default="", max_length=64)),
                ("hold_tokens", models.BigIntegerField()),
                ("held_tokens", models.BigIntegerField()),
                ("estimate_entry_id", models.UUIDField(null=True)),
                ("day", models.DateField()),
                (
                    "token_source",
                    models.CharField(
                        blank=True,
                        choices=[("api", "The provider said so"), ("estimated", "Estimated")],
                        default="",
                        max_length=16,
                    ),
                ),
                ("overage_tokens", models.BigIntegerField(default=0)),
                ("provider_request_id", models.CharField(blank=True, default="", max_length=255)),
                ("raw_usage", models.JSONField(null=True)),
                ("error_code", models.CharField(blank=True, default="", max_length=64)),
                ("error_detail", models.TextField(blank=True, default="")),
                ("opened_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("deadline", models.DateTimeField()),
                ("asked_at", models.DateTimeField(null=True)),
                ("closed_at", models.DateTimeField(null=True)),
                (
                    "operation",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="attempts",
                        to="ledger.operation",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Price",
            fields=[
                (
                    "id",
                    models.UUIDField(default=apps.core.ids.new_id, editable=False, primary_key=True, serialize=False),
                ),
                ("tenant_id", models.UUIDField(default=uuid.UUID("00000000-0000-0000-0000-000000000000"))),
                ("provider", models.CharField(max_length=64)),
                ("model", models.CharField(max_length=128)),
                ("starts_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField(blank=True, null=True)),
                ("fresh_input_usd", models.DecimalField(decimal_places=10, max_digits=20)),
                ("cached_input_usd", models.DecimalField(decimal_places=10, max_digits=20)),
                ("cache_write_usd", models.DecimalField(decimal_places=10, max_digits=20)),
                ("plain_output_usd", models.DecimalField(decimal_places=10, max_digits=20)),
                ("reasoning_usd", models.DecimalField(decimal_places=10, max_digits=20)),
                ("source", models.CharField(max_length=150)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("provider", "model", "tenant_id", "starts_at"), name="one_price_per_model_and_start"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("ends_at__isnull", True), ("ends_at__gt", models.F("starts_at")), _connector="OR"
                        ),
                        name="price_ends_after_start",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("cache_write_usd__gte", 0),
                            ("cached_input_usd__gte", 0),
                            ("fresh_input_usd__gte", 0),
                            ("plain_output_usd__gte", 0),
                            ("reasoning_usd__gte", 0),
                        ),
                        name="price_not_negative",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="UsageDaily",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("tenant_id", models.UUIDField()),
                ("owner_tenant_id", models.UUIDField()),
                ("payer_tenant_id", models.UUIDField()),
                ("fresh_input_tokens", models.BigIntegerField(default=0)),
                ("cached_input_tokens", models.BigIntegerField(default=0)),
                ("cache_write_tokens", models.BigIntegerField(default=0)),
                ("plain_output_tokens", models.BigIntegerField(default=0)),
                ("reasoning_tokens", models.BigIntegerField(default=0)),
                ("provider", models.CharField(max_length=64)),
                ("model", models.CharField(max_length=128)),
                ("agent_id", models.UUIDField(default=uuid.UUID("00000000-0000-0000-0000-000000000000"))),
                ("collection_id", models.UUIDField(default=uuid.UUID("00000000-0000-0000-0000-000000000000"))),
                ("operation", models.CharField(max_length=16)),
                ("token_type", models.CharField(max_length=16)),
                ("token_source", models.CharField(max_length=16)),
                ("billable", models.BooleanField()),
                ("total_tokens", models.BigIntegerField(default=0)),
                ("cost_usd", models.DecimalField(decimal_places=10, default=0, max_digits=24)),
                ("entries", models.PositiveIntegerField(default=0)),
                ("unpriced_entries", models.PositiveIntegerField(default=0)),
                ("day", models.DateField()),
            ],
            options={
                "verbose_name_plural": "daily usage",
                "indexes": [
                    models.Index(fields=["owner_tenant_id", "day"], name="usage_daily_of_owner"),
                    models.Index(fields=["tenant_id", "day"], name="usage_daily_of_consumer"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=(
                            "payer_tenant_id",
                            "day",
                            "owner_tenant_id",
                            "tenant_id",
                            "provider",
                            "model",
                            "agent_id",
                            "collection_id",
                            "operation",
                            "token_type",
                            "token_source",
                            "billable",
                        ),
                        name="usage_daily_key",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="UsageMonthly",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("tenant_id", models.UUIDField()),
                ("owner_tenant_id", models.UUIDField()),
                ("payer_tenant_id", models.UUIDField()),
                ("fresh_input_tokens", models.BigIntegerField(default=0)),
                ("cached_input_tokens", models.BigIntegerField(default=0)),
                ("cache_write_tokens", models.BigIntegerField(default=0)),
                ("plain_output_tokens", models.BigIntegerField(default=0)),
                ("reasoning_tokens", models.BigIntegerField(default=0)),
                ("provider", models.CharField(max_length=64)),
                ("model", models.CharField(max_length=128)),
                ("agent_id", models.UUIDField(default=uuid.UUID("00000000-0000-0000-0000-000000000000"))),
                ("collection_id", models.UUIDField(default=uuid.UUID("00000000-0000-0000-0000-000000000000"))),
                ("operation", models.CharField(max_length=16)),
                ("token_type", models.CharField(max_length=16)),
                ("token_source", models.CharField(max_length=16)),
                ("billable", models.BooleanField()),
                ("total_tokens", models.BigIntegerField(default=0)),
                ("cost_usd", models.DecimalField(decimal_places=10, default=0, max_digits=24)),
                ("entries", models.PositiveIntegerField(default=0)),
                ("unpriced_entries", models.PositiveIntegerField(default=0)),
                ("month", models.DateField()),
            ],
            options={
                "verbose_name_plural": "monthly usage",
                "indexes": [
                    models.Index(fields=["owner_tenant_id", "month"], name="usage_monthly_of_owner"),
                    models.Index(fields=["tenant_id", "month"], name="usage_monthly_of_consumer"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=(
                            "payer_tenant_id",
                            "month",
                            "owner_tenant_id",
                            "tenant_id",
                            "provider",
                            "model",
                            "agent_id",
                            "collection_id",
                            "operation",
                            "token_type",
                            "token_source",
                            "billable",
                        ),
                        name="usage_monthly_key",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Entry",
            fields=[
                ("tenant_id", models.UUIDField()),
                ("owner_tenant_id", models.UUIDField()),
                ("payer_tenant_id", models.UUIDField()),
                ("fresh_input_tokens", models.BigIntegerField(default=0)),
                ("cached_input_tokens", models.BigIntegerField(default=0)),
                ("cache_write_tokens", models.BigIntegerField(default=0)),
                ("plain_output_tokens", models.BigIntegerField(default=0)),
                ("reasoning_tokens", models.BigIntegerField(default=0)),
                (
                    "id",
                    models.UUIDField(default=apps.core.ids.new_id, editable=False, primary_key=True, serialize=False),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("usage", "Usage"), ("adjustment", "Adjustment")], default="usage", max_length=16
                    ),
                ),
                ("idempotency_key", models.CharField(max_length=255)),
                ("payload_hash", models.CharField(max_length=64)),
                (
                    "token_type",
                    models.CharField(
                        choices=[("llm", "Language model"), ("embedding", "Embedding"), ("fine_tuning", "Fine-tuning")],
                        max_length=16,
                    ),
                ),
                (
                    "operation",
                    models.CharField(
                        choices=[
                            ("query", "Query"),
                            ("chat", "Chat"),
                            ("summarize", "Summarize"),
                            ("vector_search", "Vector search"),
                            ("generation", "Generation"),
                            ("classification", "Classification"),
                            ("extraction", "Extraction"),
                            ("batch", "Batch"),
                            ("internal", "Internal"),
                            ("embedding", "Embedding"),
                        ],
                        max_length=16,
                    ),
                ),
                ("provider", models.CharField(max_length=64)),
                ("model", models.CharField(max_length=128)),
                ("model_family", models.CharField(blank=True, default="", max_length=64)),
                ("total_tokens", models.BigIntegerField()),
                (
                    "token_source",
                    models.CharField(
                        choices=[("api", "The provider said so"), ("estimated", "Estimated")], max_length=16
                    ),
                ),
                ("billable", models.BooleanField()),
                ("cost_usd", models.DecimalField(decimal_places=10, max_digits=20, null=True)),
                ("price_id", models.UUIDField(null=True)),
                ("reason", models.CharField(blank=True, default="", max_length=500)),
                ("actor", models.CharField(blank=True, default="", max_length=150)),
                ("day", models.DateField()),
                ("agent_id", models.UUIDField(null=True)),
                ("collection_id", models.UUIDField(null=True)),
                ("document_id", models.UUIDField(null=True)),
                ("conversation_id", models.UUIDField(null=True)),
                ("run_id", models.UUIDField(null=True)),
                ("context_id", models.UUIDField(null=True)),
                ("provider_request_id", models.CharField(blank=True, default="", max_length=255)),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("occurred_at", models.DateTimeField()),
                ("recorded_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("metadata", models.JSONField(default=dict)),
                (
                    "attempt",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="entries",
                        to="ledger.attempt",
                    ),
                ),
                (
                    "corrects",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="corrections",
                        to="ledger.entry",
                    ),
                ),
                (
                    "operation_ref",
                    models.ForeignKey(
                        db_column="operation_id",
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="entries",
                        to="ledger.operation",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "entries",
                "indexes": [
                    models.Index(fields=["payer_tenant_id", "-id"], name="entry_of_payer"),
                    models.Index(fields=["owner_tenant_id", "-id"], name="entry_of_owner"),
                    models.Index(fields=["payer_tenant_id", "day"], name="entry_of_payer_day"),
                    models.Index(condition=models.Q(("run_id__isnull", False)), fields=["run_id"], name="entry_of_run"),
                    models.Index(
                        condition=models.Q(("corrects__isnull", False)), fields=["corrects"], name="entry_corrections"
                    ),
                    models.Index(condition=models.Q(("cost_usd__isnull", True)), fields=["id"], name="entry_unpriced"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant_id", "idempotency_key"), name="one_entry_per_key"),
                    models.CheckConstraint(
                        condition=apps.core.constraints.OneOf("token_type", ["llm", "embedding", "fine_tuning"]),
                        name="entry_token_type",
                    ),
                    models.CheckConstraint(
                        condition=apps.core.constraints.OneOf(
                            "operation",
                            [
                                "query",
                                "chat",
                                "summarize",
                                "vector_search",
                                "generation",
                                "classification",
                                "extraction",
                                "batch",
                                "internal",
                                "embedding",
                            ],
                        ),
                        name="entry_operation",
                    ),
                    models.CheckConstraint(
                        condition=apps.core.constraints.OneOf("kind", ["usage", "adjustment"]), name="entry_kind"
                    ),
                    models.CheckConstraint(
                        condition=apps.core.constraints.OneOf("token_source", ["api", "estimated"]),
                        name="entry_token_source",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "total_tokens",
                                django.db.models.expressions.CombinedExpression(
                                    django.db.models.expressions.CombinedExpression(
                                        django.db.models.expressions.CombinedExpression(
                                            django.db.models.expressions.CombinedExpression(
                                                models.F("fresh_input_tokens"), "+", models.F("cached_input_tokens")
                                            ),
                                            "+",
                                            models.F("cache_write_tokens"),
                                        ),
                                        "+",
                                        models.F("plain_output_tokens"),
                                    ),
                                    "+",
                                    models.F("reasoning_tokens"),
                                ),
                            )
                        ),
                        name="entry_buckets_add_up",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("corrects__isnull", False), ("kind", "adjustment")),
                            models.Q(
                                django.db.models.lookups.GreaterThanOrEqual(
                                    django.db.models.functions.comparison.Least(
                                        "fresh_input_tokens",
                                        "cached_input_tokens",
                                        "cache_write_tokens",
                                        "plain_output_tokens",
                                        "reasoning_tokens",
                                    ),
                                    0,
                                ),
                                ("kind", "usage"),
                            ),
                            _connector="OR",
                        ),
                        name="entry_usage_not_negative",
                    ),
                ],
            },
        ),
        migrations.AddIndex(
            model_name="attempt",
            index=models.Index(
                condition=models.Q(("state__in", ["open", "unknown"])),
                fields=["payer_tenant_id", "state"],
                name="attempt_unresolved",
            ),
        ),
        migrations.AddConstraint(
            model_name="attempt",
            constraint=models.UniqueConstraint(fields=("operation", "number"), name="attempt_number"),
        ),
        migrations.AddConstraint(
            model_name="attempt",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state", "open")), fields=("operation",), name="one_open_attempt"
            ),
        ),
        migrations.AddConstraint(
            model_name="attempt",
            constraint=models.CheckConstraint(
                condition=apps.core.constraints.OneOf("state", ["open", "settled", "void", "unknown", "lost"]),
                name="attempt_state",
            ),
        ),
        migrations.AddConstraint(
            model_name="attempt",
            constraint=models.CheckConstraint(
                condition=models.Q(("held_tokens__gte", 0)), name="attempt_held_not_negative"
            ),
        ),
        migrations.AddConstraint(
            model_name="attempt",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("held_tokens", 0), apps.core.constraints.OneOf("state", ["open", "unknown"]), _connector="OR"
                ),
                name="attempt_held_while_unresolved",
            ),
        ),
    ]
