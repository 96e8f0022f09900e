-- What must hold in the books whoever writes to them: entries stay as they are, states move one way.

CREATE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ledger entries are append-only: write an adjustment' USING ERRCODE = 'NB403';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_entry
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON ledger_entry
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON ledger_entry FROM nooble_app, nooble_operator;

-- The arguments are the allowed steps, as 'from>to'.
CREATE FUNCTION ledger_refuse_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (OLD.state || '>' || NEW.state) = ANY (TG_ARGV) THEN
        RAISE EXCEPTION '% cannot go from % to %', TG_TABLE_NAME, OLD.state, NEW.state USING ERRCODE = 'NB403';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER state_machine BEFORE UPDATE ON ledger_operation
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state)
    EXECUTE FUNCTION ledger_refuse_step('pending>done', 'pending>failed', 'pending>cancelled');
CREATE TRIGGER state_machine BEFORE UPDATE ON ledger_attempt
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state)
    EXECUTE FUNCTION ledger_refuse_step(
        'open>settled', 'open>void', 'open>unknown', 'unknown>settled', 'unknown>void', 'unknown>lost');
