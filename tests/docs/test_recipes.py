"""The recipes' code fits the code: what they say to write could be written."""

import ast
import inspect
import tomllib
from typing import Any

import pytest

from apps.providers.base import ChatProvider, EmbeddingProvider
from apps.providers.catalog import PROVIDERS, ModelSpec, ProviderSpec
from settings import variables
from settings.variables import Variable
from tests.conformance.subjects import Subject
from tests.docs.pages import page

CONTRIBUTING = page("CONTRIBUTING.md")
PROTOCOLS: list[type] = [ChatProvider, EmbeddingProvider]


def written(kind: type) -> list[Any]:
    """What the recipes build of that class, built."""
    names = {**vars(variables), "ProviderSpec": ProviderSpec, "Subject": Subject}
    calls = [node.value for tree in trees() for node in tree.body if isinstance(node, ast.Expr)]
    built = [eval(ast.unparse(call), names) for call in calls if isinstance(call, ast.Call)]
    return [one for one in built if isinstance(one, kind)]


def trees() -> list[ast.Module]:
    return [ast.parse(block) for block in CONTRIBUTING.blocks("python")]


def test_a_new_providers_data_belong_together() -> None:
    [spec], [subject] = written(ProviderSpec), written(Subject)
    [table] = [tomllib.loads(block) for block in CONTRIBUTING.blocks("toml")]
    models = {name: ModelSpec(provider=spec.name, model=name, **facts) for name, facts in table[spec.name].items()}
    assert spec.name == subject.name not in PROVIDERS
    assert models[subject.chat_model].does == "chat"
    assert models[subject.embedding_model].makes(subject.smaller)
    assert models[subject.embedding_model].dimensions == subject.dimensions


def test_a_new_providers_variables_are_those_that_it_reads() -> None:
    [spec] = written(ProviderSpec)
    names = [variable.name for variable in written(Variable)]
    assert spec.key_variable in names
    assert all(f'ENV["{name}"]' in CONTRIBUTING.text for name in names)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.__name__)
def test_a_new_adapter_has_the_contracts_methods(protocol: type) -> None:
    [adapter] = [node for tree in trees() for node in tree.body if isinstance(node, ast.ClassDef)]
    methods = {node.name: node for node in adapter.body if isinstance(node, ast.FunctionDef)}
    for name, method in inspect.getmembers(protocol, inspect.isfunction):
        if not name.startswith("_"):
            arguments = methods[name].args
            assert [each.arg for each in (*arguments.args, *arguments.kwonlyargs)] == [
                *inspect.signature(method).parameters
            ]


def test_what_a_new_adapter_imports_of_ours_is_there() -> None:
    imports = [node for tree in trees() for node in tree.body if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if (node.module or "").startswith("apps.")]
    assert ours
    exec(compile(ast.Module(body=[*ours], type_ignores=[]), "CONTRIBUTING.md", "exec"), {})


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_is_documented(name: str) -> None:
    spec = PROVIDERS[name]
    does = ", ".join(sorted(spec.does))
    assert (
        f"| `{name}` | {does} | {f'`{spec.key_variable}`' if spec.key_variable else 'none'} |"
        in page("docs/providers.md").text
    )
