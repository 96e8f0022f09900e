"""Time: UTC inside; a tenant's zone only decides which day or month a moment belongs to.

Whatever holds or releases a lease or a budget is decided by the database's clock, never by this one.
"""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo


def now() -> datetime:
    return datetime.now(UTC)


def today(time_zone: str) -> date:
    """The date it is now in an IANA time zone."""
    return datetime.now(ZoneInfo(time_zone)).date()


def month_after(month: date) -> date:
    """The first day of the month that follows the one of ``month``."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def epoch_milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970-01-01T00:00Z, as they stand in idempotency keys."""
    return int(moment.timestamp() * 1000)
