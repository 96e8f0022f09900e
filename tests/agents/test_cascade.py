"""Request → agent → tier → deployment: which value a question is answered with, and who said so.

Whatever a tier, an agent, a body and headers say, together or against each other, a question is answered as the
strongest of them says, and the run names it; or it is refused, and nothing is written.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.agents import services
from apps.agents.models import Run
from apps.core.configuration import SETTINGS, Level, Setting
from apps.core.db import operator_scope, unit_of_work
from apps.core.headers import HEADERS
from apps.tenants.models import Tier
from tests.personas import MakeTenant, Persona

API = "/api/v1"
#: The tier that is edited here.
EDITED = "advance"
EXAMPLES = 120
MAX_OUTPUT_TOKENS = 3000
#: The settings of an answer, that is, those that a run shows.
SHOWN = [name for name in SETTINGS if name.startswith(("llm_config.", "rag_config.max_results"))]
IN_BODY = {"llm_config.provider", "llm_config.model", "llm_config.temperature", "llm_config.max_tokens"}
BY_HEADER = {header.setting: header.name for header in HEADERS.values() if header.setting in SHOWN}


@dataclass(frozen=True)
class World:
    persona: Persona
    agent: str
    collection: str
    foreign: str


@pytest.fixture(scope="module")
def world(database: None) -> Iterator[World]:
    tier = Tier.objects.get(pk=EDITED)
    from apps.tenants import services as tenants  # noqa: PLC0415

    owner, stranger = (
        Persona(*tenants.create_tenant(slug=f"t-{uuid4().hex[:12]}", name="Test", tier=EDITED)) for _ in range(2)
    )
    mine, theirs = (collection_of(each) for each in (owner, stranger))
    agent = services.create_agent(owner.ctx, slug="helper", name="Helper")
    yield World(persona=owner, agent=str(agent.pk), collection=mine, foreign=theirs)
    with operator_scope("test"):
        tier.save()
