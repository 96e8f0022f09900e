from django.db import migrations

PROTECT = """
CALL nooble_protect('tenants_member', 'consumer');
CALL nooble_protect('tenants_apikey', 'consumer');

-- A tenant's own row has no tenant_id: its three parties may read it (the ledger needs the payer's zone and limit),
-- and only operators write it.
ALTER TABLE tenants_tenant ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenants_tenant FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_read ON tenants_tenant FOR SELECT TO nooble_app
    USING (id IN ((SELECT nooble_consumer()), (SELECT nooble_owner()), (SELECT nooble_payer())));
CREATE POLICY operator ON tenants_tenant TO nooble_operator USING (true) WITH CHECK (true);
"""
UNPROTECT = """
DROP POLICY operator ON tenants_tenant;
DROP POLICY tenant_read ON tenants_tenant;
ALTER TABLE tenants_tenant NO FORCE ROW LEVEL SECURITY;
ALTER TABLE tenants_tenant DISABLE ROW LEVEL SECURITY;
CALL nooble_unprotect('tenants_apikey');
CALL nooble_unprotect('tenants_member');
"""


class Migration(migrations.Migration):
    dependencies = [("tenants", "0001_tables"), ("core", "0001_row_level_security")]
    operations = [migrations.RunSQL(PROTECT, UNPROTECT)]
