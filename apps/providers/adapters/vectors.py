"""Vectors as we keep them, whoever made them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from apps.providers.base import EmbeddingRequest, Vectors
from apps.providers.catalog import ModelSpec
from apps.providers.errors import UnsupportedDimensionsError


def asked_for(request: EmbeddingRequest, facts: ModelSpec) -> int | None:
    """The length that is to be sent with the request; None: none, as models of one size refuse even their own."""
    wanted = request.dimensions
    if wanted is None or (wanted == facts.dimensions and not facts.matryoshka):
        return None
    if not facts.makes(wanted):
        raise UnsupportedDimensionsError(f"{facts.model} makes vectors of {facts.lengths_made}, not of {wanted}.")
    return wanted


def of_unit_length(rows: Sequence[Any], size: int | None) -> Vectors:
    """The rows, brought to unit length; ``size`` is that of each, where it is known.

    Of anything that is no set of vectors a TypeError, ValueError or OverflowError.
    """
    matrix = np.stack([np.asarray(row, dtype=np.float64) for row in rows])
    if matrix.ndim != 2 or matrix.shape[1] != (size or matrix.shape[1]):
        raise ValueError("a vector is of another size, or no list of numbers")
    with np.errstate(over="ignore"):  # what overflows is infinite
        lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    if not np.all(np.isfinite(lengths)) or not np.all(lengths > 0):
        raise ValueError("a vector is not finite, or has no direction")
    return np.asarray(matrix / lengths, dtype=np.float32)
