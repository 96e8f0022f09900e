-- What must hold in the books whoever writes to them: entries stay as they are, states move one way.

CREATE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ledger entries are append-only: write an adjustment' USING ERRCODE = 'NB403';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_entry
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON ledger_entry
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();

-- The arguments are the allowed steps, as 'from>to'.
CREATE FUNCTION ledger_refuse_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state <> NEW.state AND (OLD.state || '>' || NEW.state) <> ALL (TG_ARGV) THEN
        RAISE EXCEPTION '% cannot go from % to %', TG_TABLE_NAME, OLD.state, NEW.state USING ERRCODE = 'NB403';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER state_machine BEFORE UPDATE ON ledger_operation
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_step('pending>done', 'pending>failed', 'pending>cancelled');
CREATE TRIGGER state_machine BEFORE UPDATE ON ledger_attempt
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_step(
        'open>settled', 'open>void', 'open>unknown', 'unknown>settled', 'unknown>void', 'unknown>lost');

-- A price stays as it was set; it may end.
CREATE FUNCTION ledger_refuse_price() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND to_jsonb(NEW) - 'ends_at' = to_jsonb(OLD) - 'ends_at' THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a price stays as it was set: end it, and set another' USING ERRCODE = 'NB403';
END $$;
CREATE TRIGGER only_its_end BEFORE UPDATE OR DELETE ON ledger_price
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_price();
