import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("tenants", "0003_tiers")]

    operations = [
        migrations.AddField(
            model_name="member",
            name="invited_as",
            field=models.CharField(blank=True, default="", editable=False, max_length=150),
        ),
        migrations.AlterField(
            model_name="member",
            name="user",
            field=models.ForeignKey(
                help_text="Whose account it is.",
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="memberships",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddConstraint(
            model_name="member",
            constraint=models.UniqueConstraint(
                condition=Q(("user__isnull", True)), fields=("tenant", "invited_as"), name="one_invitation_per_name"
            ),
        ),
        migrations.AddConstraint(
            model_name="member",
            constraint=models.CheckConstraint(
                condition=Q(("user__isnull", False)) | ~Q(("invited_as", "")), name="a_member_has_a_name"
            ),
        ),
    ]
