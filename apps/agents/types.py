from django.db import models


class Payer(models.TextChoices):
    """Who is billed for what another tenant asks a shared agent."""

    OWNER = "owner", "The agent's owner"
    CONSUMER = "consumer", "The tenant that asks"


class RunStatus(models.TextChoices):
    QUEUED = "queued", "Queued"
    RETRIEVING = "retrieving", "Retrieving"
    GENERATING = "generating", "Generating"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


class Author(models.TextChoices):
    USER = "user", "User"
    ASSISTANT = "assistant", "Assistant"
