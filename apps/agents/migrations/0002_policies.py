from django.db import migrations

PROTECT = """
CALL nooble_protect('agents_agent', 'owner');
CALL nooble_protect('agents_agentversion', 'owner');
CALL nooble_protect('agents_conversation', 'consumer');
CALL nooble_protect('agents_run', 'consumer');
CALL nooble_protect('agents_message', 'consumer');
CALL nooble_reference('agents_agentversion', 'agent_id', 'agents_agent', 'CASCADE');
CALL nooble_reference('agents_run', 'conversation_id', 'agents_conversation', 'CASCADE');
CALL nooble_reference('agents_message', 'conversation_id', 'agents_conversation', 'CASCADE');
CALL nooble_reference('agents_message', 'run_id', 'agents_run', 'CASCADE');
"""
UNPROTECT = """
ALTER TABLE agents_message DROP CONSTRAINT agents_message_run_id_tenant,
    DROP CONSTRAINT agents_message_conversation_id_tenant;
ALTER TABLE agents_run DROP CONSTRAINT agents_run_conversation_id_tenant;
ALTER TABLE agents_agentversion DROP CONSTRAINT agents_agentversion_agent_id_tenant;
CALL nooble_unprotect('agents_message');
CALL nooble_unprotect('agents_run');
CALL nooble_unprotect('agents_conversation');
CALL nooble_unprotect('agents_agentversion');
CALL nooble_unprotect('agents_agent');
"""


class Migration(migrations.Migration):
    dependencies = [("agents", "0001_tables"), ("core", "0001_row_level_security")]
    operations = [migrations.RunSQL(PROTECT, UNPROTECT)]
