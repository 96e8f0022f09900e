"""The local model's vectors are WordLlama's own."""

import json
import subprocess
import sys

import numpy as np
import pytest

from apps.providers import wordvectors

TEXTS = ["The pump weighs 44 kg.", "Die Pumpe wiegt 44 kg: 漢字 🙂", "x", "A longer text about something else. " * 30]

#: In a process of its own, because importing the package configures the root logger.
ORACLE = """
import json, sys
from pathlib import Path
import wordllama
model = wordllama.WordLlama.load(
    cache_dir=Path(wordllama.__file__).parent, disable_download=True, trunc_dim=int(sys.argv[1])
)
print(json.dumps(model.embed(json.loads(sys.argv[2]), norm=True).tolist()))
"""


@pytest.mark.parametrize("dimensions", [64, 256])
def test_vectors_are_those_of_the_package(dimensions: int) -> None:
    command = [sys.executable, "-c", ORACLE, str(dimensions), json.dumps(TEXTS)]
    expected = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    vectors = wordvectors.embed([wordvectors.encode(text) for text in TEXTS], dimensions=dimensions)
    np.testing.assert_allclose(vectors, np.array(expected), atol=1e-5)


def test_a_text_without_a_token_has_no_direction() -> None:
    assert not wordvectors.embed([wordvectors.encode("")]).any()


def test_no_text_is_no_vector() -> None:
    assert wordvectors.embed([]).shape == (0, 256)


def test_the_root_logger_is_left_alone() -> None:
    program = (
        "import logging; from apps.providers import wordvectors\n"
        "wordvectors.encode('x'); assert not logging.root.handlers"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
