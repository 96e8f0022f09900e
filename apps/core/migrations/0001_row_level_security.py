"""The procedures with which every later migration protects a tenant table and ties its foreign keys to the tenant."""

from django.db import migrations

FUNCTIONS = """
-- An unset custom setting reads '' after the first transaction of a connection that used it, hence nullif.
CREATE FUNCTION nooble_consumer() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS
    $$ SELECT nullif(current_setting('nooble.tenant_id', true), '')::uuid $$;
CREATE FUNCTION nooble_owner() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS
    $$ SELECT nullif(current_setting('nooble.owner_id', true), '')::uuid $$;
CREATE FUNCTION nooble_payer() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS
    $$ SELECT nullif(current_setting('nooble.payer_id', true), '')::uuid $$;

-- Forces row-level security on a table. visible_to says whose scope opens its rows:
--   consumer  the tenant that asks (conversations, runs)
--   owner     the tenant whose agent and collections are used; others read them through it, only it writes them
--   payer     the tenant that is billed (budgets)
--   parties   consumer, owner and payer stand in the row; any of them reads it, asking in its own name (ledger rows)
-- Rows of the last two are written by the till's functions and by operators, which have policies of their own; the
-- application has no right to (ledger/migrations/sql/rights.sql). If it were granted one by mistake, these bind it.
-- The sub-selects are evaluated once a statement; without them the setting is read again for every row.
CREATE PROCEDURE nooble_protect(target regclass, visible_to text) LANGUAGE plpgsql AS $procedure$
DECLARE
    readable text;
    writable text;
BEGIN
    CASE visible_to
        WHEN 'consumer' THEN
            readable := 'tenant_id = (SELECT nooble_consumer())';
            writable := readable;
        WHEN 'owner' THEN
            readable := 'tenant_id = (SELECT nooble_owner())';
            writable := readable || ' AND tenant_id = (SELECT nooble_consumer())';
        WHEN 'payer' THEN
            readable := 'tenant_id = (SELECT nooble_payer())';
            writable := readable;
        WHEN 'parties' THEN
            -- Queries filter by a party themselves, so every row they find passes. The planner cannot know: it would take
            -- the two for independent, expect next to nothing, and sort what an index has in order. Of a coalesce it
            -- assumes that every second row passes.
            readable := 'coalesce((SELECT nooble_consumer()) IN (tenant_id, owner_tenant_id, payer_tenant_id), false)';
            writable := 'tenant_id = nooble_consumer() AND owner_tenant_id = nooble_owner()'
                        ' AND payer_tenant_id = nooble_payer()';
    END CASE;
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', target);
    -- What may be written may be read, so reading need not ask the policies for writing.
    EXECUTE format('CREATE POLICY tenant_read ON %s FOR SELECT TO nooble_app USING (%s)', target, readable);
    EXECUTE format('CREATE POLICY tenant_insert ON %s FOR INSERT TO nooble_app WITH CHECK (%s)', target, writable);
    EXECUTE format('CREATE POLICY tenant_update ON %s FOR UPDATE TO nooble_app USING (%s) WITH CHECK (%s)', target, writable, writable);
    EXECUTE format('CREATE POLICY tenant_delete ON %s FOR DELETE TO nooble_app USING (%s)', target, writable);
    EXECUTE format('CREATE POLICY operator ON %s TO nooble_operator USING (true) WITH CHECK (true)', target);
END $procedure$;

CREATE PROCEDURE nooble_unprotect(target regclass) LANGUAGE plpgsql AS $procedure$
BEGIN
    EXECUTE format('DROP POLICY tenant_read ON %s', target);
    EXECUTE format('DROP POLICY tenant_insert ON %s', target);
    EXECUTE format('DROP POLICY tenant_update ON %s', target);
    EXECUTE format('DROP POLICY tenant_delete ON %s', target);
    EXECUTE format('DROP POLICY operator ON %s', target);
    EXECUTE format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', target);
    EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', target);
END $procedure$;

-- A foreign key that includes the tenant. Foreign-key checks bypass policies, so an id alone could point at another
-- tenant's row; (tenant, id) cannot.
CREATE PROCEDURE nooble_reference(
    source regclass, source_column name, target regclass, on_delete text, tenant_column name DEFAULT 'tenant_id'
) LANGUAGE plpgsql AS $procedure$
DECLARE
    target_key name := left(replace(target::text, '"', ''), 48) || '_tenant_key';
BEGIN
    IF NOT EXISTS (SELECT FROM pg_constraint WHERE conname = target_key AND conrelid = target) THEN
        EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I UNIQUE (tenant_id, id)', target, target_key);
    END IF;
    EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I FOREIGN KEY (%I, %I) REFERENCES %s (tenant_id, id)'
                   ' ON DELETE %s DEFERRABLE INITIALLY IMMEDIATE',
                   source, left(replace(source::text, '"', ''), 30) || '_' || left(source_column, 24) || '_tenant',
                   tenant_column, source_column, target, on_delete);
END $procedure$;
"""

DROP = """
DROP PROCEDURE nooble_reference(regclass, name, regclass, text, name);
DROP PROCEDURE nooble_unprotect(regclass);
DROP PROCEDURE nooble_protect(regclass, text);
DROP FUNCTION nooble_payer();
DROP FUNCTION nooble_owner();
DROP FUNCTION nooble_consumer();
"""


class Migration(migrations.Migration):
    initial = True
    dependencies: list[tuple[str, str]] = []
    operations = [migrations.RunSQL(FUNCTIONS, DROP)]
