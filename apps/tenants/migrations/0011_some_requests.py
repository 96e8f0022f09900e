"""A tier allows one request a minute or more, or any number. With none its tenants would be refused for good."""

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("tenants", "0010_request_limits")]
    operations = [
        migrations.AddConstraint(
            model_name="tier",
            constraint=models.CheckConstraint(condition=Q(requests_per_minute__gt=0), name="tier_requests_per_minute"),
        ),
    ]
