-- What the roles may do inside one database: applied by `manage.py migrate` as the owner, before it migrates, so that
-- every new database has it, a test's included. Default privileges reach what the owner creates from here on.

DO $$
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO nooble_app', current_database());
END $$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO nooble_app, nooble_operator, nooble_till;

-- Never TRUNCATE: it ignores row-level security and the triggers that keep the ledger append-only.
ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO nooble_app, nooble_operator;
ALTER DEFAULT PRIVILEGES GRANT USAGE, SELECT ON SEQUENCES TO nooble_app, nooble_operator;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO nooble_app, nooble_operator, nooble_till;
