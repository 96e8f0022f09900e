"""What tokens cost."""

from django.db import models
from django.db.models import Q

from apps.core.ids import NO_ID, new_id


class Price(models.Model):
    """What a model costs from a moment on, in USD per million tokens of each bucket.

    ``tenant_id`` is the payer that the price is for, or the zero id: everybody. A payer's own price goes before. A row
    explains what entries cost, so a trigger lets nothing of it change but its end.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant_id = models.UUIDField(default=NO_ID)
    provider = models.CharField(max_length=64)
    model = models.CharField(max_length=128)
    starts_at = models.DateTimeField()
    #: Null: until the next one starts.
    ends_at = models.DateTimeField(null=True, blank=True)
    fresh_input_usd = models.DecimalField(max_digits=20, decimal_places=10)
    cached_input_usd = models.DecimalField(max_digits=20, decimal_places=10)
    cache_write_usd = models.DecimalField(max_digits=20, decimal_places=10)
    plain_output_usd = models.DecimalField(max_digits=20, decimal_places=10)
    reasoning_usd = models.DecimalField(max_digits=20, decimal_places=10)
    #: Where it comes from: a package and its version, or the operator who set it.
    source = models.CharField(max_length=150)

    class Meta:
        constraints = [
            # Also what settle looks the price of an entry up by.
            models.UniqueConstraint(
                fields=["provider", "model", "tenant_id", "starts_at"], name="one_price_per_model_and_start"
            ),
            models.CheckConstraint(
                condition=Q(ends_at__isnull=True) | Q(ends_at__gt=models.F("starts_at")), name="price_ends_after_start"
            ),
            models.CheckConstraint(
                condition=Q(
                    fresh_input_usd__gte=0,
                    cached_input_usd__gte=0,
                    cache_write_usd__gte=0,
                    plain_output_usd__gte=0,
                    reasoning_usd__gte=0,
                ),
                name="price_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider}/{self.model} from {self.starts_at:%Y-%m-%d}"
