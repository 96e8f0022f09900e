from django.db import migrations

# Read by its tenant, and in the scope of what the tenant pays for, in which its key is used. Written by its tenant in its
# own name, but for where the key is sent, which operators decide: neither a new row nor a change of the tenant's says it.
PROTECT = """
CALL nooble_protect('tenants_providercredential', 'consumer');
CREATE POLICY payer_read ON tenants_providercredential FOR SELECT TO nooble_app
    USING (tenant_id = (SELECT nooble_payer()));
ALTER POLICY tenant_insert ON tenants_providercredential
    WITH CHECK (tenant_id = (SELECT nooble_consumer()) AND base_url = '');
REVOKE UPDATE ON tenants_providercredential FROM nooble_app;
GRANT UPDATE (encrypted_secret, hint, created_at, rotated_at) ON tenants_providercredential TO nooble_app;
"""
UNPROTECT = """
REVOKE UPDATE (encrypted_secret, hint, created_at, rotated_at) ON tenants_providercredential FROM nooble_app;
GRANT UPDATE ON tenants_providercredential TO nooble_app;
DROP POLICY payer_read ON tenants_providercredential;
CALL nooble_unprotect('tenants_providercredential');
"""


class Migration(migrations.Migration):
    dependencies = [("tenants", "0006_provider_credentials"), ("core", "0001_row_level_security")]
    operations = [migrations.RunSQL(PROTECT, UNPROTECT)]
