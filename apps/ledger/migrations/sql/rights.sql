-- Who writes. The application reads the ledger's tables under its policies and writes them through the till's functions
-- alone, which run as nooble_till: so nobody books past them, and hold and settle, which name the parties in every
-- statement, need not ask the policies once more. Of an operation the application keeps the lease. Operators end what
-- was left behind and repair sums; not even they write or take away an operation, an attempt or an entry.
REVOKE INSERT, UPDATE, DELETE ON ledger_operation, ledger_attempt, ledger_entry, ledger_usagedaily, ledger_usagemonthly,
    ledger_budget, ledger_discrepancy, ledger_price, ledger_reconciliationrun FROM nooble_app;
REVOKE ALL ON ledger_terms FROM nooble_app, nooble_operator;
REVOKE INSERT, DELETE ON ledger_operation, ledger_attempt FROM nooble_operator;
REVOKE INSERT, UPDATE, DELETE ON ledger_entry FROM nooble_operator;
-- What is done for no tenant's context is an operator's.
REVOKE EXECUTE ON FUNCTION ledger_give_up, ledger_adjust, ledger_enter_again, ledger_note, ledger_correct_to FROM nooble_app;
GRANT UPDATE (lease_expires_at) ON ledger_operation TO nooble_app;

GRANT SELECT ON ledger_terms, ledger_price, tenants_tenant, tenants_tier TO nooble_till;
GRANT SELECT, INSERT ON ledger_entry TO nooble_till;
GRANT SELECT, INSERT, UPDATE ON ledger_operation, ledger_attempt, ledger_usagedaily, ledger_usagemonthly, ledger_budget,
    ledger_discrepancy TO nooble_till;

DO $$
DECLARE
    v_name text;
BEGIN
    FOREACH v_name IN ARRAY ARRAY['ledger_operation', 'ledger_attempt', 'ledger_entry', 'ledger_usagedaily',
        'ledger_usagemonthly', 'ledger_budget', 'ledger_discrepancy', 'ledger_price', 'tenants_tenant'] LOOP
        EXECUTE format('CREATE POLICY till ON %I TO nooble_till USING (true) WITH CHECK (true)', v_name);
    END LOOP;
    -- A function can be given to a role that may create in its schema, and to no other.
    GRANT CREATE ON SCHEMA public TO nooble_till;
    FOREACH v_name IN ARRAY ARRAY['ledger_hold', 'ledger_settle', 'ledger_settle_partly', 'ledger_report', 'ledger_close',
        'ledger_end', 'ledger_give_up', 'ledger_record', 'ledger_adjust', 'ledger_enter_again', 'ledger_note'] LOOP
        EXECUTE format('ALTER FUNCTION %I SECURITY DEFINER SET search_path = public, pg_temp', v_name);
        EXECUTE format('ALTER FUNCTION %I OWNER TO nooble_till', v_name);
    END LOOP;
    REVOKE CREATE ON SCHEMA public FROM nooble_till;
END $$;
