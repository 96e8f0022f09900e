"""Fixtures that every test may ask for, beside those of ``tests/conftest.py``."""

pytest_plugins = ["tests.personas", "tests.fakes.fixtures"]
