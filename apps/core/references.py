from typing import Any

from django.db import models


def reference(to: Any, **options: Any) -> models.ForeignKey[Any, Any]:
    """A foreign key whose constraint, with the tenant in it and a cascade, is written in SQL by the migration."""
    return models.ForeignKey(to, on_delete=models.DO_NOTHING, db_constraint=False, **options)
