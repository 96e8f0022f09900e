"""No tenant, no rows: every table that belongs to a tenant is closed to every other, by the database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.apps import apps
from django.db import DatabaseError, connection, models, transaction

from apps.core.db import execute, fetch_all, operator_scope, unit_of_work
from tests.personas import Persona

#: What a row needs beside its defaults, by column, or by model and column; others get a value by their type.
SPECIFIC: dict[str, Any] = {
    "token_type": "llm",
    "kind": "usage",
    "Discrepancy.kind": "overage",
    "token_source": "api",
    "embedding": "[1,2,3]",
    "terms": "{1:1}/268435456",
    "scopes": "{chat}",
    "encrypted_secret": b"secret",
    "hint": "cret",
    "base_url": "",
    "collections": "{}",
    "total_tokens": 0,
}


#: What names a tenant: whose a row is, who pays for it, whom it is shared with.
TENANT_COLUMN = "tenant_id$|^consumer_id$"


def _tenant_models() -> list[type[models.Model]]:
    return [model for model in apps.get_models() if _tenant_columns(model) or model.__name__ == "Tenant"]


def _tenant_columns(model: type[models.Model]) -> list[str]:
    return [column for column in _columns(model) if re.search(TENANT_COLUMN, column)]


def _columns(model: type[models.Model]) -> dict[str, models.Field[Any, Any]]:
    return {str(field.column): field for field in model._meta.local_fields}


TENANT_MODELS = [pytest.param(model, id=model._meta.label) for model in _tenant_models()]


@pytest.mark.parametrize("model", TENANT_MODELS)
def test_every_table_with_a_tenant_has_forced_policies(database: None, model: type[models.Model]) -> None:
    table = model._meta.db_table
    [row] = fetch_all("SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE relname = %s", [table])
    policies = fetch_all("SELECT policyname FROM pg_policies WHERE tablename = %s", [table])
    assert row == {"relrowsecurity": True, "relforcerowsecurity": True}
    assert {"tenant_read", "operator"} <= {policy["policyname"] for policy in policies}


def test_every_table_with_a_tenant_column_is_a_model_that_is_tested(database: None) -> None:
    found = fetch_all("SELECT table_name FROM information_schema.columns WHERE column_name ~ %s", [TENANT_COLUMN])
    known = {model._meta.db_table for model in _tenant_models()}
    assert {row["table_name"] for row in found} <= known


def test_the_application_is_no_superuser_and_owns_no_table(database: None) -> None:
    [role] = fetch_all(
        "SELECT rolname, rolsuper, rolbypassrls, (SELECT count(*) FROM pg_tables WHERE tableowner = rolname) AS owns"
        " FROM pg_roles WHERE rolname = current_user"
    )
    assert role == {"rolname": "nooble_app", "rolsuper": False, "rolbypassrls": False, "owns": 0}


@dataclass(frozen=True)
class Planted:
    """A row of the owner's in some table."""

    table: str
    key: str
    value: Any

    def where(self) -> tuple[str, list[Any]]:
        return f"{self.table} WHERE {self.key} = %s", [self.value]


@pytest.fixture
def planted(request: pytest.FixtureRequest, owner: Persona) -> Iterator[Planted]:
    """A row of the model, the owner's, with foreign keys switched off: what is tested is who sees it."""
    model: type[models.Model] = request.param
    values = _values(model, owner.tenant.pk)
    table = model._meta.db_table
    if model.__name__ == "Tenant":
        yield Planted(table, "id", owner.tenant.pk)
        return
    with transaction.atomic("owner"), transaction.get_connection("owner").cursor() as cursor:
        _insert_as_owner(cursor, table, values)
    key = str(model._meta.pk.column)
    with operator_scope("test"):
        [column, *_] = _tenant_columns(model)
        [row] = fetch_all(f"SELECT {key} AS key FROM {table} WHERE {column} = %s LIMIT 1", [owner.tenant.pk])
    yield Planted(table, key, row["key"])


def _insert_as_owner(cursor: Any, table: str, values: dict[str, Any]) -> None:
    """As the table's owner, past policies and triggers: no other table needs a row first, and some none may write."""
    cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    cursor.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    names = ", ".join(values)
    constraints = _foreign_keys(cursor, table)
    for name, _ in constraints:
        cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    cursor.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join(['%s'] * len(values))})", list(values.values()))
    for name, definition in constraints:
        cursor.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition} NOT VALID")
    cursor.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


def _foreign_keys(cursor: Any, table: str) -> list[tuple[str, str]]:
    cursor.execute(
        "SELECT quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE contype = 'f' AND conrelid = %s::regclass",
        [table],
    )
    return [(name, definition.replace(" NOT VALID", "")) for name, definition in cursor.fetchall()]


def _values(model: type[models.Model], tenant_id: UUID) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for column, field in _columns(model).items():
        if column.endswith("tenant_id"):
            values[column] = tenant_id
        elif not isinstance(field, models.AutoField):
            value = _value(model.__name__, column, field)
            if value is not None:
                values[column] = value
    return values


#: A value for a column that has no default, by the kind of its field; the first that fits.
BY_KIND: list[tuple[type[models.Field[Any, Any]], Callable[[], Any]]] = [
    (models.UUIDField, uuid4),
    (models.JSONField, lambda: "{}"),
    (models.BooleanField, lambda: True),
    (models.DateField, lambda: "2026-01-01"),
    (models.IntegerField, lambda: 0),
    (models.DecimalField, lambda: 0),
]


def _value(model: str, column: str, field: models.Field[Any, Any]) -> Any:
    for name in (f"{model}.{column}", column):
        if name in SPECIFIC:
            return SPECIFIC[name]
    if field.null or field.has_db_default():
        return None
    kind = field.target_field if isinstance(field, models.ForeignKey) else field
    made = next((make for fitting, make in BY_KIND if isinstance(kind, fitting)), None)
    return made() if made else next((str(choice) for choice, _ in kind.choices or []), uuid4().hex[:12])


@pytest.mark.parametrize("planted", TENANT_MODELS, indirect=True)
def test_another_tenants_row_cannot_be_seen_changed_or_deleted(planted: Planted, stranger: Persona) -> None:
    where, parameters = planted.where()
    with unit_of_work(stranger.ctx):
        assert fetch_all(f"SELECT 1 FROM {where}", parameters) == []
    assert (
        _rows_changed(
            stranger, f"UPDATE {planted.table} SET {planted.key} = {planted.key} WHERE {planted.key} = %s", parameters
        )
        == 0
    )
    assert _rows_changed(stranger, f"DELETE FROM {where}", parameters) == 0
    with operator_scope("test"):
        assert len(fetch_all(f"SELECT 1 FROM {where}", parameters)) == 1


@pytest.mark.parametrize("planted", TENANT_MODELS, indirect=True)
def test_without_a_scope_there_are_no_rows(planted: Planted) -> None:
    where, parameters = planted.where()
    assert fetch_all(f"SELECT 1 FROM {where}", parameters) == []


@pytest.mark.parametrize("model", TENANT_MODELS)
def test_a_row_cannot_be_inserted_for_another_tenant(
    model: type[models.Model], owner: Persona, stranger: Persona
) -> None:
    values = _values(model, owner.tenant.pk)
    names, places = ", ".join(values), ", ".join(["%s"] * len(values))
    statement = f"INSERT INTO {model._meta.db_table} ({names}) VALUES ({places})"
    # What the ledger holds the application may not write at all, but through the till's functions.
    refused = r"permission denied for table ledger_" if model._meta.app_label == "ledger" else "row-level security"
    with pytest.raises(DatabaseError, match=refused), unit_of_work(stranger.ctx):
        execute(statement, list(values.values()))


def _rows_changed(persona: Persona, statement: str, parameters: list[Any]) -> int:
    """How many rows a statement changes; a refusal by missing privileges changes none."""
    try:
        with unit_of_work(persona.ctx), connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return int(cursor.rowcount)
    except DatabaseError as error:
        if "permission denied" not in str(error):
            raise
        return 0
