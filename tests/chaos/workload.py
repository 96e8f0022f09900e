"""Tenants with agents and collections, and the clients that put the planned work to them, as often as it takes."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from django.db import connection
from rest_framework.test import APIClient

from apps.agents import services as agents
from apps.core.db import operator_scope
from apps.tenants import services
from apps.tenants.models import Tenant, Tier
from tests.chaos.plan import PATIENT_TIMEOUT, PROVIDERS, QUICK_TIMEOUT, Item, Plan, Profile
from tests.fakes.process import FakeProvider

logger = logging.getLogger(__name__)

DIMENSIONS = 64
BATCH_CHUNKS = 8
PARAGRAPHS = 80
MAX_TOKENS = 200
TIGHT_LIMIT = 1_500
CLIENTS = 5
CLIENT_SECONDS = 120
_AGAIN = frozenset({409, 429, 500, 502, 503, 504})
#: What each customer's agents set themselves. One of ``keeping`` may be struck, so it has to be patient. The
#: ``versatile`` ones have a second model, too.
AGENTS: Mapping[str, Mapping[str, Any]] = {
    "quick": {"llm_config.timeout_seconds": QUICK_TIMEOUT},
    "versatile": {"llm_config.timeout_seconds": QUICK_TIMEOUT},
    "patient": {"llm_config.timeout_seconds": PATIENT_TIMEOUT},
    "keeping": {"llm_config.timeout_seconds": PATIENT_TIMEOUT, "llm_config.on_interrupted_stream": "partial"},
}


@dataclass(frozen=True, kw_only=True)
class Customer:
    """A tenant of one profile. ``limit`` is what its budget has, if that is tight."""

    profile: Profile
    tenant: Tenant
    key: str
    limit: int | None
    collection: UUID
    #: By name; see :data:`AGENTS`.
    agents: Mapping[str, UUID]


@dataclass(kw_only=True)
class Workload:
    """Puts the items of a plan to the API when their time has come; ``asked`` is what became of each: its row's id."""

    plan: Plan
    fake: FakeProvider
    customers: Sequence[Customer]
    asked: dict[str, UUID] = field(default_factory=dict)
    #: What clients had to send again, because no answer or a failure came back.
    repeated: int = 0
    errors: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Begin; the plan's clock starts now."""
        self._began = time.monotonic()
        self._turn = count()
        self._threads = [threading.Thread(target=self._client, name=f"client {n}", daemon=True) for n in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _client(self) -> None:
        while (turn := next(self._turn)) < len(self.plan.items):
            item = self.plan.items[turn]
            time.sleep(max(0.0, self._began + item.at - time.monotonic()))
            try:
                self.asked[item.marker] = self._put(item)
            except Exception as error:
                logger.exception("a client failed")
                self.errors.append(f"{item.marker} could not be handed in: {error}")
        connection.close()

    def _put(self, item: Item) -> UUID:
        for fault in item.faults:
            match = {"path": fault["path"], "contains": item.marker}
            self.fake.fail(**{**fault, "match": match})
        customer = next(c for c in self.customers if c.profile == item.profile and bool(c.limit) == item.tight)
        if item.kind == "document":
            body = {"name": f"{item.marker}.md", "text": text(item.marker, PARAGRAPHS)}
            return UUID(self._post(customer, f"/collections/{customer.collection}/documents", body)["id"])
        agent = str(customer.agents[agent_for(item)])
        question = {"agent_id": agent, "message": f"How much does the pump {item.marker} weigh?"}
        return UUID(self._post(customer, "/chat", question)["run_id"])

    def _post(self, customer: Customer, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """As a careful client does: with a key, again while the service is in trouble."""
        key = str(uuid4())
        deadline = time.monotonic() + CLIENT_SECONDS
        while True:
            response = client(customer.key).post(
                f"/api/v1{path}", body, format="json", headers={"Idempotency-Key": key}
            )
            if response.status_code < 300:
                found: dict[str, Any] = response.json()
                return found
            assert response.status_code in _AGAIN, response.json()
            assert time.monotonic() < deadline, response.json()
            self.repeated += 1
            connection.close()
            time.sleep(0.3)


def client(key: str) -> APIClient:
    api = APIClient(raise_request_exception=False)
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    return api


def customers(plan: Plan, *, hard: bool) -> list[Customer]:
    """For each profile a tenant with all it wants and one whose budget covers only some of it.

    ``hard`` off: the till does not look at the limit. The negative control looks itself.
    """
    with operator_scope("chaos"):
        Tier.objects.filter(name="enterprise").update(defaults={"processing_config.batch_size": BATCH_CHUNKS})
    return [_customer(profile, limit, hard=hard) for profile in plan.profiles for limit in (None, TIGHT_LIMIT)]


def _customer(profile: Profile, limit: int | None, *, hard: bool) -> Customer:
    slug = f"{profile}-{'tight' if limit else 'ample'}"
    tenant, key = services.create_tenant(slug=slug, name=slug, tier="enterprise")
    with operator_scope("chaos"):
        Tenant.objects.filter(pk=tenant.pk).update(monthly_token_limit=limit, hard_limit=hard)
    collection = _made(key, "/collections", _collection(profile))
    ctx = services.context_of(tenant)
    made = {
        name: agents.create_agent(
            ctx,
            slug=name,
            name=name,
            settings={**_agent(profile), **own},
            collection_ids=[UUID(collection)],
            fallback_models=[f"{PROVIDERS[profile]}/fake-other"] if name == "versatile" else [],
        )
        for name, own in AGENTS.items()
    }
    return Customer(
        profile=profile,
        tenant=tenant,
        key=key,
        limit=limit,
        collection=UUID(collection),
        agents={name: agent.pk for name, agent in made.items()},
    )


def agent_for(item: Item) -> str:
    """Which of the agents is asked. What is to be refused is not put to one that asks another model then."""
    if item.kind == "keep":
        return "keeping"
    return "patient" if item.patient else "quick" if item.refused else "versatile"


def _collection(profile: Profile) -> dict[str, Any]:
    embedding = {"provider": PROVIDERS[profile], "model": "fake-embedding", "dimensions": DIMENSIONS}
    return {"slug": "notes", "name": "Notes", "embedding": embedding, "chunk_size": 64, "chunk_overlap": 0}


def _agent(profile: Profile) -> dict[str, Any]:
    return {
        "llm_config.provider": PROVIDERS[profile],
        "llm_config.model": "fake-chat",
        "llm_config.max_tokens": MAX_TOKENS,
        "rag_config.max_results": 2,
    }


def _made(key: str, path: str, body: dict[str, Any]) -> str:
    response = client(key).post(f"/api/v1{path}", body, format="json")
    assert response.status_code < 300, response.json()
    return str(response.json()["id"])


def text(marker: str, paragraphs: int) -> str:
    """A document in which every chunk holds the marker."""
    return "\n\n".join(
        f"Paragraph {number} of {marker}: the pump {marker}-{number} weighs {number} kilograms and stands in hall "
        f"{number % 7}, where it lifts {number * 3} litres of water a minute to the tank of {marker}."
        for number in range(paragraphs)
    )
