"""What the ledger logs as an error, because somebody must look at it."""

from typing import Any

import pytest


def alarms(caplog: pytest.LogCaptureFixture, message: str, *names: str) -> list[tuple[Any, ...]]:
    """The values of these fields on each error that was logged with the message."""
    found = [record for record in caplog.records if (record.levelname, record.getMessage()) == ("ERROR", message)]
    return [tuple(vars(record)[name] for name in names) for record in found]
