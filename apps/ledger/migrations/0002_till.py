"""Policies, guards, the functions of the till and who may write: see the SQL beside this file."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).parent / "sql"

PROTECT = """
CALL nooble_protect('ledger_operation', 'parties');
CALL nooble_protect('ledger_attempt', 'parties');
CALL nooble_protect('ledger_entry', 'parties');
CALL nooble_protect('ledger_usagedaily', 'parties');
CALL nooble_protect('ledger_usagemonthly', 'parties');
CALL nooble_protect('ledger_budget', 'payer');
CALL nooble_protect('ledger_discrepancy', 'payer');
-- What an operation keeps is the consumer's: the answer's text, the question's vector. Of its attempts the payer reads
-- what is held; a share's owner who does not pay reads neither.
ALTER POLICY tenant_read ON ledger_operation USING (tenant_id = (SELECT nooble_consumer()));
ALTER POLICY tenant_read ON ledger_attempt USING ((SELECT nooble_consumer()) IN (tenant_id, payer_tenant_id));

-- A price is the payer's own, or everybody's (the zero id). Only operators set prices.
ALTER TABLE ledger_price ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger_price FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_read ON ledger_price FOR SELECT TO nooble_app
    USING (tenant_id IN ('00000000-0000-0000-0000-000000000000', (SELECT nooble_payer())));
CREATE POLICY operator ON ledger_price TO nooble_operator USING (true) WITH CHECK (true);
CALL nooble_reference('ledger_attempt', 'operation_id', 'ledger_operation', 'NO ACTION');
CALL nooble_reference('ledger_entry', 'operation_id', 'ledger_operation', 'NO ACTION');
CALL nooble_reference('ledger_entry', 'attempt_id', 'ledger_attempt', 'NO ACTION');
CALL nooble_reference('ledger_entry', 'corrects_id', 'ledger_entry', 'NO ACTION');
"""
DROP = """
DO $$
DECLARE
    v_table text;
BEGIN
    FOR v_table IN SELECT tablename FROM pg_policies WHERE policyname = 'till' LOOP
        EXECUTE format('DROP POLICY till ON %I', v_table);
    END LOOP;
END $$;
DROP TRIGGER only_its_end ON ledger_price;
DROP TRIGGER state_machine ON ledger_attempt;
DROP TRIGGER state_machine ON ledger_operation;
DROP TRIGGER append_only_truncate ON ledger_entry;
DROP TRIGGER append_only ON ledger_entry;
DROP FUNCTION ledger_refuse_price(), ledger_refuse_step(), ledger_refuse_change();
DROP FUNCTION ledger_give_up, ledger_end, ledger_close, ledger_report, ledger_settle_partly, ledger_settle_late,
    ledger_settle, ledger_count_late, ledger_doubt_others, ledger_lock_operation_of, ledger_enter_again, ledger_enter,
    ledger_hold_again, ledger_hold;
DROP TYPE ledger_settlement, ledger_held;
DROP FUNCTION ledger_record, ledger_correct_to, ledger_adjust, ledger_lock_entry, ledger_note, ledger_new_id, ledger_count_monthly,
    ledger_count_daily, ledger_count_all_monthly, ledger_count_all_daily, ledger_move, ledger_refuse, ledger_take, ledger_cost, ledger_price_of, ledger_sum;
DROP VIEW ledger_terms;
DROP TYPE ledger_counts;
ALTER TABLE ledger_entry DROP CONSTRAINT ledger_entry_corrects_id_tenant, DROP CONSTRAINT ledger_entry_attempt_id_tenant,
    DROP CONSTRAINT ledger_entry_operation_id_tenant;
ALTER TABLE ledger_attempt DROP CONSTRAINT ledger_attempt_operation_id_tenant;
DROP POLICY operator ON ledger_price;
DROP POLICY tenant_read ON ledger_price;
ALTER TABLE ledger_price NO FORCE ROW LEVEL SECURITY;
ALTER TABLE ledger_price DISABLE ROW LEVEL SECURITY;
CALL nooble_unprotect('ledger_discrepancy');
CALL nooble_unprotect('ledger_budget');
CALL nooble_unprotect('ledger_usagemonthly');
CALL nooble_unprotect('ledger_usagedaily');
CALL nooble_unprotect('ledger_entry');
CALL nooble_unprotect('ledger_attempt');
CALL nooble_unprotect('ledger_operation');
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0001_tables"), ("tenants", "0002_policies")]
    operations = [
        migrations.RunSQL(
            PROTECT + "".join((SQL / f"{name}.sql").read_text() for name in ("books", "till", "guards", "rights")), DROP
        )
    ]
