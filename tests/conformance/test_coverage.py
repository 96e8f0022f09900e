"""No provider gets past the suite, and none of its failures past the ways to call it."""

import pytest
from django.conf import settings

from apps.providers import catalog
from settings.variables import VARIABLES
from tests.conformance.conftest import CALLS, WAYS
from tests.conformance.subjects import REMOTE, SUBJECTS

EACH_PROVIDER = pytest.mark.parametrize("spec", catalog.PROVIDERS.values(), ids=lambda spec: spec.name)


@EACH_PROVIDER
def test_every_provider_is_tried_with_all_that_it_does(spec: catalog.ProviderSpec) -> None:
    [subject] = [subject for subject in SUBJECTS if subject.name == spec.name]
    tried = {"chat": subject.chat_model, "embed": subject.embedding_model}
    assert {work for work, model in tried.items() if model} == spec.does


@EACH_PROVIDER
def test_every_provider_is_tried_with_models_of_its_own(spec: catalog.ProviderSpec) -> None:
    [subject] = [subject for subject in SUBJECTS if subject.name == spec.name]
    if "chat" in spec.does:
        assert subject.chat_model in {model.model for model in catalog.models(spec.name, "chat")}
    if "embed" in spec.does:
        [facts] = [model for model in catalog.models(spec.name, "embed") if model.model == subject.embedding_model]
        assert facts.dimensions == subject.dimensions
        assert facts.makes(subject.smaller)


@EACH_PROVIDER
def test_every_provider_can_be_configured_from_the_environment(spec: catalog.ProviderSpec) -> None:
    assert spec.name in settings.NOOBLE_PROVIDERS
    assert not spec.key_variable or spec.key_variable in {variable.name for variable in VARIABLES}


def test_every_remote_provider_is_called_in_every_way_that_it_can_be() -> None:
    assert {subject for subject, _ in CALLS} == set(REMOTE)
    assert {way for _, way in CALLS} == set(WAYS)
