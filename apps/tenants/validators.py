from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.core.exceptions import ValidationError

from apps.core.secrets import KEY

#: A shorter one would be told by its hint, or guessed.
SHORTEST_SECRET, LONGEST_SECRET = 16, 512


def validate_time_zone(name: str) -> None:
    """Refuse what is not an IANA time zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValidationError(f"“{name}” is not a time zone. Use an IANA name such as Europe/Madrid.") from error


def validate_secret(text: str) -> None:
    """Refuse what cannot be a provider's key, without repeating it."""
    if not SHORTEST_SECRET <= len(text) <= LONGEST_SECRET:
        raise ValidationError(f"A key has {SHORTEST_SECRET} to {LONGEST_SECRET} characters.", code="length")
    if not KEY.match(text):
        raise ValidationError("It holds spaces or characters that no key has.", code="not_a_key")
