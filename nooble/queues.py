"""The queues, ``{domain}.{tier}``: a domain has workers of its own, so that ingestion never delays answers."""

from kombu import Queue

TIERED_DOMAINS = ("query", "embedding", "ingestion")
TIERS = ("enterprise", "professional", "advance", "free")
MAINTENANCE = "maintenance"


def of(domain: str) -> list[str]:
    """The queues of one domain, the most demanding tier first."""
    return [domain] if domain == MAINTENANCE else [f"{domain}.{tier}" for tier in TIERS]


def names() -> list[str]:
    return [name for domain in (*TIERED_DOMAINS, MAINTENANCE) for name in of(domain)]


def declared() -> list[Queue]:
    """Every queue, for Celery: publishing to any other is an error, not a queue that nobody reads."""
    return [Queue(name, routing_key=name) for name in names()]
