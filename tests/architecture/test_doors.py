"""The doors to the database, and who may use which."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: Who may see every tenant's rows, and why.
OPERATORS = {
    "apps/tenants/services.py",  # authentication comes before there is a tenant; tenants are made by operators
    "apps/tenants/credentials.py",  # a new encryption key is for every tenant's secrets
    "apps/core/maintenance.py",  # the sweeper
    "apps/ledger/sweeping.py",  # the sweeper
    "apps/ledger/reconciliation.py",  # compares everybody's books
    "apps/ledger/adjustments.py",  # an operator's correction
    "apps/ledger/pricing.py",  # prices are everybody's
    "apps/ledger/repricing.py",  # an operator's correction of a month
    "nooble/admin_site.py",  # the operators' admin
}


def _imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "apps.core.db"
        for alias in node.names
    }


def _sources() -> list[Path]:
    return [path for room in ("apps", "nooble", "tasks") for path in (ROOT / room).rglob("*.py")]


def test_operator_scope_is_imported_only_where_every_tenant_must_be_seen() -> None:
    users = {str(path.relative_to(ROOT)) for path in _sources() if "operator_scope" in _imports(path)}
    assert users == OPERATORS


def test_nobody_takes_the_database_module_whole_to_reach_the_operators_door() -> None:
    reaching = [path for path in _sources() if "db.operator_scope" in path.read_text() and path.name != "db.py"]
    assert reaching == []


def test_providers_know_no_database() -> None:
    adapters = [path for path in _sources() if path.is_relative_to(ROOT / "apps" / "providers")]
    assert adapters
    assert [path for path in adapters if "django.db" in path.read_text()] == []


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils", "helpers", "common", "misc"}
    assert [path for path in _sources() if path.stem in drawers] == []
