from django.db import models


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
