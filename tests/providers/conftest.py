"""Deployments to ask for providers in."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import override_settings

#: Sets ``NOOBLE_PROVIDERS`` until the test ends.
Deploy = Callable[[dict[str, dict[str, Any]]], None]


@pytest.fixture
def deploy() -> Iterator[Deploy]:
    overrides = []

    def deploy_with(providers: dict[str, dict[str, Any]]) -> None:
        override = override_settings(NOOBLE_PROVIDERS=providers)
        override.enable()
        overrides.append(override)

    yield deploy_with
    for override in reversed(overrides):
        override.disable()
