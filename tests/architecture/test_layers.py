"""Every application has its layers, and so has every module that is added to one."""

import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def _contracts() -> list[dict[str, Any]]:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts: list[dict[str, Any]] = configuration["tool"]["importlinter"]["contracts"]
    return contracts


def test_every_application_has_its_layers() -> None:
    inside = [contract for contract in _contracts() if "containers" in contract]
    apps = {f"apps.{path.parent.name}" for path in (ROOT / "apps").glob("*/__init__.py")}
    assert apps
    assert {container for contract in inside for container in contract["containers"]} == apps
    assert all(contract["type"] == "layers" and contract["exhaustive"] for contract in inside)


def test_the_contracts_have_no_exceptions() -> None:
    excepting = {"ignore_imports", "exhaustive_ignores", "unmatched_ignore_imports_alerting"}
    assert [contract["name"] for contract in _contracts() if excepting & contract.keys()] == []
