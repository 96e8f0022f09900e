"""The local model: 32,000 token vectors of WordLlama, trained as Matryoshka embeddings, and their tokenizer.

The model's two files are read straight from the installed package. Importing the package itself would configure the
root logger, and its ``embed`` pads every text of a batch to the longest; the vectors are the same (a test compares).
"""

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from apps.providers.base import Vectors

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

DIMENSIONS = 256
#: The sizes it was trained for: the first so many numbers of a vector are a vector of their own.
TRAINED_DIMENSIONS = (64, 128, 256)

_loading = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class _Model:
    tokenizer: "Tokenizer"
    #: float32, shape (tokens of the vocabulary, 256).
    weights: Vectors


def encode(text: str) -> "Encoding":
    """The tokens of a text, with their ids and their offsets in it. The text must hold no lone surrogate."""
    return _model().tokenizer.encode(text, add_special_tokens=False)


def embed(encodings: Sequence["Encoding"], *, dimensions: int = DIMENSIONS) -> Vectors:
    """The mean of each text's token vectors, cut to ``dimensions`` and brought to unit length.

    Shape (texts, dimensions), float32; a text without a token is all zeros.
    """
    weights = _model().weights
    vectors = np.zeros((len(encodings), dimensions), dtype=np.float32)
    for row, encoding in zip(vectors, encodings, strict=True):
        if encoding.ids:
            row[:] = weights[encoding.ids, :dimensions].mean(axis=0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return vectors


def _model() -> _Model:
    # One thread loads, the others wait: the weights are 32 MB.
    with _loading:
        return _load()


@functools.cache
def _load() -> _Model:
    from safetensors.numpy import load_file  # noqa: PLC0415 - only processes that embed need it
    from tokenizers import Tokenizer  # noqa: PLC0415 - the same

    package = find_spec("wordllama")
    assert package is not None, "wordllama is in requirements.txt"
    folder = Path((package.submodule_search_locations or [""])[0])
    weights = load_file(folder / "weights" / "l2_supercat_256.safetensors")["embedding.weight"]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    return _Model(tokenizer=tokenizer, weights=weights.astype(np.float32))
