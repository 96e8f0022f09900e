"""``manage.py reconcile``: what it says, and when it fails."""

import pytest
from django.core.management import CommandError, call_command

from apps.core import clock
from tests.ledger.test_reconciliation import planted, settled
from tests.personas import Persona


def test_the_command_fails_when_somebody_must_look_at_something(owner: Persona) -> None:
    held = settled(owner)
    call_command("reconcile", "--since", f"{clock.today('UTC'):%Y-%m-%d}")
    planted("UPDATE ledger_operation SET state = 'failed' WHERE id = %s", held.operation_id)
    with pytest.raises(CommandError, match="cannot be repaired"):
        call_command("reconcile")
    call_command("reconcile")


def test_what_was_only_written_down_before_is_said_to_be_repaired(
    owner: Persona, capsys: pytest.CaptureFixture[str]
) -> None:
    settled(owner)
    planted("UPDATE ledger_budget SET spent_tokens = 0 WHERE tenant_id = %s", owner.tenant.pk)
    with pytest.raises(CommandError):
        call_command("reconcile", "--no-repair")
    capsys.readouterr()
    call_command("reconcile")
    told = capsys.readouterr().out
    assert "0 new: Billable entries and the budget's spent differ; 1 repaired" in told
    assert "Nothing new was found" not in told
    call_command("reconcile")
    assert "Nothing new was found" in capsys.readouterr().out


def test_the_command_refuses_what_is_no_date(database: None) -> None:
    with pytest.raises(CommandError, match="is not a date such as"):
        call_command("reconcile", "--since", "yesterday")
