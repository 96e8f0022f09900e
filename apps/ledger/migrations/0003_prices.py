"""Prices stay as they were set; what a correction and a list of unpriced entries read is indexed."""

from django.db import migrations, models
from django.db.models import Q

GUARD = """
CREATE FUNCTION ledger_refuse_price() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND to_jsonb(NEW) - 'ends_at' = to_jsonb(OLD) - 'ends_at' THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a price stays as it was set: end it, and set another' USING ERRCODE = 'NB403';
END $$;
CREATE TRIGGER only_its_end BEFORE UPDATE OR DELETE ON ledger_price
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_price();
"""
DROP = """
DROP TRIGGER only_its_end ON ledger_price;
DROP FUNCTION ledger_refuse_price();
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0002_till")]
    operations = [
        migrations.RunSQL(GUARD, DROP),
        migrations.AddIndex(
            "entry",
            models.Index(fields=["corrects"], name="entry_corrections", condition=Q(corrects__isnull=False)),
        ),
        migrations.AddIndex(
            "entry", models.Index(fields=["id"], name="entry_unpriced", condition=Q(cost_usd__isnull=True))
        ),
    ]
