"""Columns that the tables of the ledger share."""

from django.db import models


class Parties(models.Model):
    """Who asked, whose agent it was, who pays."""

    tenant_id = models.UUIDField()
    owner_tenant_id = models.UUIDField()
    payer_tenant_id = models.UUIDField()

    class Meta:
        abstract = True


class Buckets(models.Model):
    """Tokens in exclusive buckets. Adjustments are negative where they take back."""

    fresh_input_tokens = models.BigIntegerField(default=0)
    cached_input_tokens = models.BigIntegerField(default=0)
    cache_write_tokens = models.BigIntegerField(default=0)
    plain_output_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)

    class Meta:
        abstract = True

    @property
    def input_tokens(self) -> int:
        return self.fresh_input_tokens + self.cached_input_tokens + self.cache_write_tokens

    @property
    def output_tokens(self) -> int:
        return self.plain_output_tokens + self.reasoning_tokens
