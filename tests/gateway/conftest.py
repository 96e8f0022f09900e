from uuid import uuid4

import pytest


@pytest.fixture
def question() -> str:
    """One that no other test asks, so that its faults are its own."""
    return f"What is {uuid4().hex}?"
