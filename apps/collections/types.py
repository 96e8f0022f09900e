"""States of what a collection holds."""

from typing import Literal

from django.db import models

#: By meaning and words, by meaning alone, by words alone.
Mode = Literal["hybrid", "vector", "lexical"]


class SpaceState(models.TextChoices):
    BUILDING = "building", "Building"
    LIVE = "live", "Live"
    RETIRED = "retired", "Retired"


class DocumentStatus(models.TextChoices):
    """The way of a document; ``failed`` can be retried."""

    PENDING = "pending", "Pending"
    PARSING = "parsing", "Parsing"
    CHUNKING = "chunking", "Chunking"
    EMBEDDING = "embedding", "Embedding"
    READY = "ready", "Ready"
    FAILED = "failed", "Failed"


class BatchStatus(models.TextChoices):
    PENDING = "pending", "Pending"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"
