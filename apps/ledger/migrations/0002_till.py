"""Policies, guards and the functions of the till: see the SQL beside this file."""

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
CALL nooble_reference('ledger_attempt', 'operation_id', 'ledger_operation', 'NO ACTION');
CALL nooble_reference('ledger_entry', 'operation_id', 'ledger_operation', 'NO ACTION');
CALL nooble_reference('ledger_entry', 'attempt_id', 'ledger_attempt', 'NO ACTION');
CALL nooble_reference('ledger_entry', 'corrects_id', 'ledger_entry', 'NO ACTION');
"""
DROP = """
DROP TRIGGER state_machine ON ledger_attempt;
DROP TRIGGER state_machine ON ledger_operation;
DROP TRIGGER append_only_truncate ON ledger_entry;
DROP TRIGGER append_only ON ledger_entry;
DROP FUNCTION ledger_refuse_step(), ledger_refuse_change();
DROP FUNCTION ledger_record, ledger_fail, ledger_close, ledger_settle, ledger_hold, ledger_count, ledger_move,
    ledger_take, ledger_open_scope;
DROP TYPE ledger_settlement, ledger_held;
ALTER TABLE ledger_entry DROP CONSTRAINT ledger_entry_corrects_id_tenant, DROP CONSTRAINT ledger_entry_attempt_id_tenant,
    DROP CONSTRAINT ledger_entry_operation_id_tenant;
ALTER TABLE ledger_attempt DROP CONSTRAINT ledger_attempt_operation_id_tenant;
CALL nooble_unprotect('ledger_budget');
CALL nooble_unprotect('ledger_usagemonthly');
CALL nooble_unprotect('ledger_usagedaily');
CALL nooble_unprotect('ledger_entry');
CALL nooble_unprotect('ledger_attempt');
CALL nooble_unprotect('ledger_operation');
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0001_tables"), ("tenants", "0002_policies")]
    operations = [migrations.RunSQL(PROTECT + (SQL / "till.sql").read_text() + (SQL / "guards.sql").read_text(), DROP)]
