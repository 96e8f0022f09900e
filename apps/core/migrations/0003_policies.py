from django.db import migrations

PROTECT = """
CALL nooble_protect('core_idempotentresponse', 'consumer');
CALL nooble_protect('core_deadletter', 'consumer');
"""
UNPROTECT = """
CALL nooble_unprotect('core_deadletter');
CALL nooble_unprotect('core_idempotentresponse');
"""


class Migration(migrations.Migration):
    dependencies = [("core", "0002_tables")]
    operations = [migrations.RunSQL(PROTECT, UNPROTECT)]
