-- The roles and the database of nooble, each unless it is there. For psql, as a superuser or a managed service's
-- administrator, on PostgreSQL 16 or later:
--
--     psql -X -v ON_ERROR_STOP=1 -f apps/core/sql/roles.sql "postgresql://administrator@db.example.com/postgres"
--
-- The embedded PostgreSQL is prepared by this same file. Passwords are not set here: where the roles log in over the
-- network, give them one with \password. What the roles may do inside the database is in privileges.sql, which
-- `manage.py migrate` applies.

SET client_min_messages = warning;

-- Owns the database, its tables and functions; runs the migrations. CREATEDB is for test databases only.
SELECT 'CREATE ROLE nooble_owner' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'nooble_owner') \gexec
-- What web processes and workers are. It owns nothing, so row-level security binds it.
SELECT 'CREATE ROLE nooble_app' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'nooble_app') \gexec
-- Sees every tenant. Nobody logs in as it; the application becomes it for one transaction, by name.
SELECT 'CREATE ROLE nooble_operator' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'nooble_operator') \gexec

-- Writes the ledger. Nobody logs in as it nor becomes it: the till's functions run as it, whoever calls them.
SELECT 'CREATE ROLE nooble_till' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'nooble_till') \gexec

ALTER ROLE nooble_owner LOGIN CREATEDB;
ALTER ROLE nooble_app LOGIN NOCREATEDB NOCREATEROLE;
ALTER ROLE nooble_operator NOLOGIN NOCREATEDB NOCREATEROLE;
ALTER ROLE nooble_till NOLOGIN NOCREATEDB NOCREATEROLE;

-- Without INHERIT FALSE the policies "TO nooble_operator" would apply to the application at all times.
GRANT nooble_operator TO nooble_app WITH INHERIT FALSE, SET TRUE;
-- So that migrations can give it its functions.
GRANT nooble_till TO nooble_owner WITH INHERIT FALSE, SET TRUE;
-- An administrator that is no superuser must be a member of a role to make it a database's owner.
SELECT 'GRANT nooble_owner TO CURRENT_USER' WHERE NOT pg_has_role(current_user, 'nooble_owner', 'MEMBER') \gexec

SELECT 'CREATE DATABASE nooble OWNER nooble_owner'
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'nooble') \gexec

\connect nooble
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS vector;
