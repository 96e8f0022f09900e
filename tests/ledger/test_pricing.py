"""What tokens cost: by which price, to the last decimal, and what is done about those that have none."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, transaction
from genai_prices import Usage, calc_price, extract_usage

from apps.core import clock
from apps.core.db import execute, fetch_all, operator_scope, unit_of_work
from apps.core.ids import NO_ID
from apps.ledger import price_list, pricing, repricing, statements, till
from apps.ledger.adjustments import adjust
from apps.ledger.errors import LedgerRowNotFoundError, PriceRefusedError
from apps.ledger.models import Entry, Price
from apps.ledger.price_list import BEGINNING, FREE, Rates
from apps.ledger.pricing import PriceChange
from apps.ledger.records import UsageEvent, record_many
from apps.ledger.types import Call, Charge, OperationKind, TokenCounts, TokenType
from apps.providers import catalog
from tests.personas import Persona

COUNTS = TokenCounts(
    fresh_input_tokens=1_000_003,
    cached_input_tokens=20_001,
    cache_write_tokens=3_007,
    plain_output_tokens=50_011,
    reasoning_tokens=7_013,
)
RATES = Rates(
    fresh_input_usd=Decimal("2.5"),
    cached_input_usd=Decimal("1.25"),
    cache_write_usd=Decimal("3.1234567891"),
    plain_output_usd=Decimal("10"),
    reasoning_usd=Decimal("60.5"),
)
#: By hand: (1000003 * 2.5 + 20001 * 1.25 + 3007 * 3.1234567891 + 50011 * 10 + 7013 * 60.5) / 1000000.
EXACT_COST = Decimal("3.4587974845648237")
EACH_BUCKET = pytest.mark.parametrize(
    ("bucket", "rate"),
    [
        ("fresh_input_tokens", "fresh_input_usd"),
        ("cached_input_tokens", "cached_input_usd"),
        ("cache_write_tokens", "cache_write_usd"),
        ("plain_output_tokens", "plain_output_usd"),
        ("reasoning_tokens", "reasoning_usd"),
    ],
)


def booked(factor: int = 1) -> Decimal:
    """What COUNTS cost at so many times RATES: ten decimals are kept."""
    return round(factor * EXACT_COST, 10)


COST = booked()


def times(rates: Rates, factor: int) -> Rates:
    return Rates(**{name: rate * factor for name, rate in vars(rates).items()})


@pytest.fixture
def model() -> str:
    """A model of the test's own: prices are everybody's."""
    return f"model-{uuid4().hex[:12]}"


def price(model: str, rates: Rates = RATES, **terms: Any) -> Price:
    """A price of long ago, unless ``terms`` say otherwise."""
    return pricing.set_price("acme", model, rates, actor="ada", **{"starts_at": BEGINNING, **terms})


def book(persona: Persona, model: str, counts: TokenCounts = COUNTS) -> Entry:
    """Buy something of the model through the till."""
    charge = Charge(operation=OperationKind.CHAT, token_type=TokenType.LLM, payload={"q": str(uuid4())})
    call = Call(provider="acme", model=model, hold_tokens=counts.total_tokens, deadline_seconds=30)
    till.hold(persona.ctx, charge, call)
    till.settle(persona.ctx, call.attempt_id, counts, result={})
    with unit_of_work(persona.ctx):
        return Entry.objects.get(attempt_id=call.attempt_id)


def entries(persona: Persona, **where: Any) -> list[Entry]:
    with unit_of_work(persona.ctx):
        return list(Entry.objects.filter(**where).order_by("recorded_at", "id"))


def cost(persona: Persona, **where: Any) -> Decimal:
    return sum((entry.cost_usd or Decimal(0) for entry in entries(persona, **where)), Decimal(0))


def check_books(persona: Persona) -> None:
    """Tokens agree everywhere, and so does money."""
    month = clock.today("UTC").replace(day=1)
    assert statements.statement(persona.ctx, month).differences() == []
    for granularity in ("day", "month"):
        usage = persona.api.get("/api/v1/usage", {"granularity": granularity}).json()
        assert Decimal(usage["totals"]["cost_usd"]) == cost(persona)


def reprice(persona: Persona, *arguments: str) -> str:
    out = StringIO()
    month = f"{clock.today('UTC'):%Y-%m}"
    call_command("reprice", "--tenant", persona.tenant.slug, "--month", month, *arguments, stdout=out)
    return out.getvalue()


# What an entry costs


def test_an_entry_costs_what_its_buckets_cost_together(owner: Persona, model: str) -> None:
    row = price(model)
    entry = book(owner, model)
    assert (entry.cost_usd, entry.price_id) == (COST, row.pk)
    check_books(owner)


@EACH_BUCKET
def test_each_bucket_has_a_price_of_its_own(owner: Persona, model: str, bucket: str, rate: str) -> None:
    price(model)
    three: dict[str, Any] = {bucket: 3}
    entry = book(owner, model, TokenCounts(**three))
    assert entry.cost_usd == round(3 * getattr(RATES, rate) / 1_000_000, 10)


def test_usage_from_elsewhere_costs_the_same(owner: Persona, model: str) -> None:
    row = price(model)
    event = UsageEvent(
        idempotency_key="job",
        counts=COUNTS,
        token_type=TokenType.LLM,
        operation=OperationKind.BATCH,
        provider="acme",
        model=model,
    )
    record_many(owner.ctx, [event])
    [entry] = entries(owner)
    assert (entry.cost_usd, entry.price_id) == (COST, row.pk)
    check_books(owner)


def test_what_no_provider_did_costs_nothing_however_dear_its_model(owner: Persona, model: str) -> None:
    price(model)
    event = UsageEvent(
        idempotency_key="cut",
        counts=COUNTS,
        token_type=TokenType.EMBEDDING,
        operation=OperationKind.INTERNAL,
        provider="acme",
        model=model,
        billable=False,
    )
    record_many(owner.ctx, [event])
    [entry] = entries(owner)
    assert (entry.cost_usd, entry.price_id) == (Decimal(0), None)
    adjust(entry.pk, TokenCounts(fresh_input_tokens=-1), reason="a test", actor="ada")
    assert {row.cost_usd for row in entries(owner)} == {0}
    assert "booked: +0 USD" in reprice(owner)
    record_many(owner.ctx, [replace(event, idempotency_key="billed", billable=True)])
    assert cost(owner, billable=True) == COST
    check_books(owner)


def test_a_payers_own_price_goes_before_everybodys(owner: Persona, stranger: Persona, model: str) -> None:
    price(model, starts_at=clock.now())
    price(model, times(RATES, 2), tenant=owner.tenant.pk)
    assert (book(owner, model).cost_usd, book(stranger, model).cost_usd) == (booked(2), COST)


def test_a_payers_own_price_that_has_ended_leaves_everybodys(owner: Persona, model: str) -> None:
    price(model)
    own = price(model, times(RATES, 2), tenant=owner.tenant.pk)
    pricing.end_price(own.pk, clock.now(), actor="ada")
    assert book(owner, model).cost_usd == COST


def test_what_is_booked_keeps_its_cost_when_the_price_changes(owner: Persona, model: str) -> None:
    price(model)
    before = book(owner, model)
    price(model, times(RATES, 3), starts_at=clock.now())
    after = book(owner, model)
    price(model, times(RATES, 5), starts_at=clock.now() + timedelta(days=1))
    assert (before.cost_usd, after.cost_usd, book(owner, model).cost_usd) == (COST, booked(3), booked(3))
    check_books(owner)


def test_a_call_costs_what_it_did_when_it_began(owner: Persona, model: str) -> None:
    price(model)
    charge = Charge(operation=OperationKind.CHAT, token_type=TokenType.LLM, payload={"q": model})
    call = Call(provider="acme", model=model, hold_tokens=COUNTS.total_tokens, deadline_seconds=30)
    till.hold(owner.ctx, charge, call)
    price(model, times(RATES, 3), starts_at=clock.now())
    till.settle(owner.ctx, call.attempt_id, COUNTS, result={})
    assert cost(owner) == COST


def test_a_model_without_a_price_costs_nothing_known(owner: Persona, model: str) -> None:
    entry = book(owner, model, TokenCounts(fresh_input_tokens=3))
    assert (entry.cost_usd, entry.price_id) == (None, None)
    usage = owner.api.get("/api/v1/usage", {"group_by": "model"}).json()
    for sums in (usage["totals"], *usage["results"]):
        assert (sums["cost_usd"], sums["entries"], sums["unpriced_entries"]) == ("0.0000000000", 1, 1)
    [listed] = [row for row in pricing.unpriced() if row.model == model]
    assert (listed.provider, listed.entries, listed.tokens) == ("acme", 1, 3)


def test_the_api_says_what_it_cost_and_by_which_price(owner: Persona, model: str) -> None:
    row = price(model)
    book(owner, model)
    [entry] = owner.api.get("/api/v1/usage/entries").json()["results"]
    assert (entry["cost_usd"], entry["price_id"]) == (f"{COST}", str(row.pk))
    assert owner.api.get("/api/v1/usage").json()["totals"]["unpriced_entries"] == 0


# Setting prices


@pytest.mark.parametrize(
    "terms",
    [
        {"fresh_input_usd": Decimal(-1)},
        {"reasoning_usd": Decimal("NaN")},
        {"plain_output_usd": Decimal("0.00000000001")},
        {"ends_at": BEGINNING},
        {"provider": ""},
        {"model": "x" * 129},
    ],
)
def test_what_is_no_price_is_refused(database: None, model: str, terms: dict[str, Any]) -> None:
    names = {"provider": "acme", "model": model, **{k: v for k, v in terms.items() if k in {"provider", "model"}}}
    rates = Rates(**{name: terms.get(name, rate) for name, rate in vars(RATES).items()})
    with pytest.raises(PriceRefusedError):
        pricing.set_price(**names, rates=rates, starts_at=BEGINNING, ends_at=terms.get("ends_at"), actor="ada")


def test_two_prices_do_not_start_at_one_moment(database: None, model: str) -> None:
    price(model)
    with pytest.raises(PriceRefusedError):
        price(model, FREE)


def test_a_price_does_not_end_before_it_starts(database: None, model: str) -> None:
    row = price(model)
    with pytest.raises(PriceRefusedError):
        pricing.end_price(row.pk, BEGINNING - timedelta(days=1), actor="ada")
    with pytest.raises(LedgerRowNotFoundError):
        pricing.end_price(uuid4(), None, actor="ada")


@pytest.mark.parametrize(
    "statement", ["UPDATE ledger_price SET fresh_input_usd = 0 WHERE id = %s", "DELETE FROM ledger_price WHERE id = %s"]
)
def test_a_price_stays_as_it_was_set(database: None, model: str, statement: str) -> None:
    row = price(model)
    with pytest.raises(DatabaseError, match="stays as it was set"), operator_scope("test"):
        execute(statement, [row.pk])


def test_a_tenant_sees_its_own_prices_and_sets_none(owner: Persona, stranger: Persona, model: str) -> None:
    price(model)
    price(model, tenant=stranger.tenant.pk)
    with unit_of_work(owner.ctx):
        assert [row.tenant_id for row in Price.objects.filter(model=model)] == [NO_ID]
    with pytest.raises(DatabaseError, match="permission denied"), unit_of_work(owner.ctx):
        Price.objects.create(provider="acme", model=model, starts_at=clock.now(), source="me", **vars(FREE))


# The price list


@pytest.fixture
def undone(database: None) -> Iterator[None]:
    """An operator's transaction that is undone: an import must not price what other tests book."""
    with operator_scope("test"):
        yield
        transaction.set_rollback(True)


def imported(**models: list[str]) -> Mapping[tuple[str, str], PriceChange]:
    return {(change.provider, change.model): change for change in pricing.import_prices(models)}


def current(provider: str, model: str) -> Price:
    row = Price.objects.filter(provider=provider, model=model, tenant_id=NO_ID, starts_at__lte=clock.now())
    return row.order_by("-starts_at")[0]


def test_an_import_prices_every_model_of_the_list_under_each_of_its_names(undone: None) -> None:
    changes = imported(openai=[])
    assert {changes["openai", name].outcome for name in price_list.names("openai")} == {"new"}
    gpt_4o = current("openai", "gpt-4o")
    assert (gpt_4o.fresh_input_usd, gpt_4o.cached_input_usd, gpt_4o.plain_output_usd) == (
        Decimal("2.5"),
        Decimal("1.25"),
        Decimal(10),
    )
    assert current("openai", "gpt-4o-2024-08-06").plain_output_usd == gpt_4o.plain_output_usd
    assert "as gpt-4o" in current("openai", "gpt-4o-2024-08-06").source


def test_what_the_list_has_no_price_for_costs_what_the_like_of_it_does(undone: None) -> None:
    imported(openai=[])
    gpt_4o, embedding = current("openai", "gpt-4o"), current("openai", "text-embedding-3-large")
    assert (gpt_4o.cache_write_usd, gpt_4o.reasoning_usd) == (gpt_4o.fresh_input_usd, gpt_4o.plain_output_usd)
    assert (embedding.fresh_input_usd, embedding.cached_input_usd) == (Decimal("0.13"), Decimal("0.13"))
    assert embedding.plain_output_usd == 0


def test_the_list_is_read_as_its_package_reads_it(database: None) -> None:
    usage = Usage(input_tokens=1_000_000, cache_read_tokens=400_000, output_tokens=1_000_000)
    counts = {"fresh_input_usd": 600_000, "cached_input_usd": 400_000, "plain_output_usd": 1_000_000}
    for name in ("gpt-4o", "gpt-4.1-mini", "o3", "gpt-4o-mini-2024-07-18"):
        rates = price_list.prices("openai", name)[-1].rates
        ours = sum(tokens * getattr(rates, rate) / 1_000_000 for rate, tokens in counts.items())
        assert ours == calc_price(usage, name, provider_id="openai").total_price


def test_what_is_written_to_a_cache_and_read_from_it_costs_what_the_list_says(database: None) -> None:
    # Anthropic's is the list that prices both. Of its caches only the one of five minutes, its default, is priced here.
    usage = Usage(
        input_tokens=1_000_000, cache_read_tokens=300_000, cache_write_tokens=100_000, output_tokens=1_000_000
    )
    counts = {
        "fresh_input_usd": 600_000,
        "cached_input_usd": 300_000,
        "cache_write_usd": 100_000,
        "plain_output_usd": 900_000,
        "reasoning_usd": 100_000,
    }
    for spec in catalog.models("anthropic"):
        [*_, price] = price_list.prices("anthropic", spec.model)
        if price.source.endswith("base tier"):
            continue
        ours = sum(tokens * getattr(price.rates, rate) / 1_000_000 for rate, tokens in counts.items())
        assert ours == calc_price(usage, spec.model, provider_id="anthropic").total_price
    opus = price_list.prices("anthropic", "claude-opus-5-5")[-1].rates
    assert len({opus.fresh_input_usd, opus.cached_input_usd, opus.cache_write_usd, opus.plain_output_usd}) == 4


def test_coheres_models_are_priced_by_the_names_that_cohere_has_for_them(undone: None) -> None:
    changes = imported(cohere=[model.model for model in catalog.models("cohere")])
    chat, embedding = current("cohere", "command-r7b-12-2024"), current("cohere", "embed-v4.0")
    assert (chat.fresh_input_usd, chat.plain_output_usd) == (Decimal("0.0375"), Decimal("0.15"))
    assert (embedding.fresh_input_usd, embedding.plain_output_usd) == (Decimal("0.12"), Decimal(0))
    # For those Cohere has no price by tokens.
    assert changes["cohere", "embed-english-v3.0"].outcome == "unknown"


def test_what_cohere_bills_costs_as_the_list_reckons_its_answers(database: None) -> None:
    usage = {"billed_units": {"input_tokens": 5, "output_tokens": 418}, "tokens": {"input_tokens": 71}}
    told = extract_usage({"model": "command-r7b-12-2024", "usage": usage}, provider_id="cohere")
    rates = price_list.prices("cohere", "command-r7b-12-2024")[-1].rates
    assert (5 * rates.fresh_input_usd + 418 * rates.plain_output_usd) / 1_000_000 == told.calc_price().total_price


def test_the_history_of_a_price_is_imported_with_it(undone: None) -> None:
    imported(openai=[])
    rows = Price.objects.filter(provider="openai", model="o3").order_by("starts_at")
    assert [(row.starts_at, row.fresh_input_usd) for row in rows] == [
        (BEGINNING, Decimal(10)),
        (datetime(2025, 6, 10, tzinfo=UTC), Decimal(2)),
    ]


def test_a_price_that_rises_with_the_context_is_its_base_price_and_says_so(undone: None) -> None:
    imported(openai=[])
    assert current("openai", "gpt-5.4").fresh_input_usd == Decimal("2.5")
    assert current("openai", "gpt-5.4").source.endswith(", base tier")
    assert "tier" not in current("openai", "gpt-4o").source


def test_an_import_done_again_does_nothing(undone: None) -> None:
    imported(openai=[], local=["extractive"])
    rows = Price.objects.count()
    again = {change.outcome for change in imported(openai=[], local=["extractive"]).values()}
    # Other tests may have used models that the list does not know.
    assert again - {"unknown"} == {"unchanged"}
    assert Price.objects.count() == rows


def test_a_dry_import_writes_nothing(undone: None) -> None:
    changes = pricing.import_prices({"groq": ["llama-3.3-70b-versatile"]}, dry_run=True)
    assert "new" in {change.outcome for change in changes}
    assert not Price.objects.filter(provider="groq").exists()


def test_a_price_that_changed_starts_now_and_the_old_one_stays(undone: None) -> None:
    old = Price.objects.create(
        provider="groq", model="gemma2-9b-it", starts_at=BEGINNING, source="genai-prices 0.0.1", **vars(RATES)
    )
    before = clock.now()
    change = imported(groq=[])["groq", "gemma2-9b-it"]
    assert change.outcome == "changed"
    assert current("groq", "gemma2-9b-it").starts_at >= before
    assert current("groq", "gemma2-9b-it").fresh_input_usd == Decimal("0.2")
    assert Price.objects.get(pk=old.pk).fresh_input_usd == RATES.fresh_input_usd


def test_a_price_that_an_operator_set_is_kept(undone: None) -> None:
    imported(groq=[])
    pricing.set_price("groq", "gemma2-9b-it", RATES, actor="ada")
    assert imported(groq=[])["groq", "gemma2-9b-it"].outcome == "kept"
    assert current("groq", "gemma2-9b-it").source == "set by ada"


def test_a_payers_own_price_hinders_no_import(undone: None, owner: Persona) -> None:
    pricing.set_price("groq", "gemma2-9b-it", RATES, actor="ada", tenant=owner.tenant.pk)
    assert imported(groq=[])["groq", "gemma2-9b-it"].outcome == "new"


def test_what_runs_inside_nooble_is_free(undone: None) -> None:
    imported(local=["extractive"])
    row = current("local", "extractive")
    assert Rates(**{name: getattr(row, name) for name in vars(FREE)}) == FREE


def test_the_price_of_a_future_date_is_written_once_and_waits_for_it(
    undone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "now", lambda: datetime(2025, 1, 1, tzinfo=UTC))
    imported(openai=[])
    assert current("openai", "o3").fresh_input_usd == 10
    assert imported(openai=[])["openai", "o3"].outcome == "unchanged"


def test_a_model_that_was_used_is_matched_as_the_list_matches_it(undone: None, owner: Persona) -> None:
    tuned = "ft:gpt-4o-mini-2024-07-18:acme::x1"
    assert tuned not in price_list.names("openai")
    event = UsageEvent(
        idempotency_key="tuned",
        counts=TokenCounts(fresh_input_tokens=1_000_000),
        token_type=TokenType.LLM,
        operation=OperationKind.BATCH,
        provider="openai",
        model=tuned,
    )
    record_many(owner.ctx, [event])
    assert imported(openai=[])["openai", tuned].outcome == "new"
    found = repricing.due(owner.tenant.pk, clock.today("UTC").replace(day=1))
    assert [(entry.model, entry.difference_usd) for entry in found] == [(tuned, Decimal("0.3"))]


def test_a_deployment_costs_what_the_model_does_that_it_stands_for(undone: None) -> None:
    names = {"azure_openai": {"support-eu": "gpt-4o-mini", "thinker": "o3"}}
    pricing.import_prices(names, deployments=names)
    support, thinker = current("azure_openai", "support-eu"), current("azure_openai", "thinker")
    # The list has no price of Azure's for the first: what the model's own maker asks for it.
    assert support.fresh_input_usd == price_list.prices("openai", "gpt-4o-mini")[-1].rates.fresh_input_usd
    assert support.source.endswith("as openai's gpt-4o-mini; it is gpt-4o-mini")
    assert thinker.source.endswith("as o3-2025-04-16; it is o3")


@pytest.mark.parametrize("provider", ["openai", "groq", "mistral", "azure_openai"])
def test_every_provider_that_is_paid_by_the_token_is_in_the_list(provider: str) -> None:
    known = {model.model for model in catalog.models(provider)}
    priced = {model for model in known if price_list.prices(provider, model)}
    assert len(known - priced) <= 1, known - priced


def test_work_on_ones_own_machines_costs_nothing_until_an_operator_says_what(undone: None) -> None:
    assert imported(ollama=["qwen3:8b"])["ollama", "qwen3:8b"].outcome == "new"
    assert current("ollama", "qwen3:8b").fresh_input_usd == 0
    pricing.set_price("ollama", "qwen3:8b", RATES, actor="operator")
    assert imported(ollama=["qwen3:8b"])["ollama", "qwen3:8b"].outcome == "kept"


def test_a_model_that_the_list_does_not_know_is_named(undone: None) -> None:
    assert imported(openai=["gpt-99"])["openai", "gpt-99"].outcome == "unknown"


def test_the_command_takes_the_models_of_every_provider(undone: None) -> None:
    out = StringIO()
    call_command("import_prices", stdout=out)
    known = {(model.provider, model.model) for name in catalog.PROVIDERS for model in catalog.models(name)}
    priced = set(Price.objects.values_list("provider", "model"))
    # What even the list does not know is said, not passed over.
    assert {f"{provider}/{model}" for provider, model in known - priced} <= set(out.getvalue().split())
    assert {("local", "extractive"), ("groq", "llama-3.3-70b-versatile"), ("openai", "o3")} <= priced
    again = StringIO()
    call_command("import_prices", "--dry-run", stdout=again)
    assert "would be: 0 new, 0 changed" in again.getvalue()


# Re-pricing


def test_an_entry_without_a_price_gets_one(owner: Persona, model: str) -> None:
    entry = book(owner, model)
    row = price(model)
    out = reprice(owner)
    assert f"{owner.tenant.slug}: 1 entries (1 had no price), +{COST} USD" in out
    [adjustment] = entries(owner, kind="adjustment")
    assert (adjustment.corrects_id, adjustment.total_tokens) == (entry.pk, 0)
    assert (adjustment.cost_usd, adjustment.price_id) == (COST, row.pk)
    assert adjustment.idempotency_key == f"reprice:{entry.pk}:{row.pk}"
    assert model not in [listed.model for listed in pricing.unpriced()]
    check_books(owner)


def test_it_was_booked_without_a_price_all_the_same(owner: Persona, model: str) -> None:
    book(owner, model)
    price(model)
    reprice(owner)
    assert owner.api.get("/api/v1/usage").json()["totals"]["unpriced_entries"] == 1


def test_a_price_for_a_time_that_has_passed_corrects_what_was_booked(owner: Persona, model: str) -> None:
    price(model)
    book(owner, model)
    price(model, times(RATES, 2), tenant=owner.tenant.pk)
    reprice(owner)
    assert cost(owner) == booked(2)
    price(model, FREE, tenant=owner.tenant.pk, starts_at=BEGINNING + timedelta(days=1))
    reprice(owner)
    assert cost(owner) == 0
    assert len(entries(owner)) == 3
    check_books(owner)


def test_re_pricing_again_does_nothing(owner: Persona, model: str) -> None:
    book(owner, model)
    price(model)
    reprice(owner)
    assert reprice(owner).splitlines()[0] == "booked: +0 USD"
    assert len(entries(owner)) == 2


def test_a_free_model_that_had_no_price_is_priced_once(owner: Persona, model: str) -> None:
    book(owner, model)
    price(model, FREE)
    reprice(owner)
    reprice(owner)
    assert [entry.cost_usd for entry in entries(owner)] == [None, Decimal(0)]


def test_an_entry_can_come_back_to_a_price_that_it_had_left(owner: Persona, model: str) -> None:
    price(model)
    book(owner, model)
    own = price(model, times(RATES, 2), tenant=owner.tenant.pk)
    for ends_at, expected in [(None, 2), (BEGINNING + timedelta(seconds=1), 1), (None, 2)]:
        pricing.end_price(own.pk, ends_at, actor="ada")
        reprice(owner)
        assert cost(owner) == booked(expected)
    assert reprice(owner).startswith("booked: +0 USD")


def test_a_dry_run_books_nothing(owner: Persona, model: str) -> None:
    book(owner, model)
    price(model)
    assert f"would be booked: +{COST} USD" in reprice(owner, "--dry-run")
    assert len(entries(owner)) == 1


def test_a_model_that_has_no_price_still_is_listed_and_left_alone(owner: Persona, model: str) -> None:
    book(owner, model)
    assert f"without a price: acme/{model}, 1 entries of {COUNTS.total_tokens} tokens" in reprice(owner)
    assert len(entries(owner)) == 1


def test_what_was_adjusted_is_priced_with_its_adjustments(owner: Persona, model: str) -> None:
    entry = book(owner, model)
    adjust(entry.pk, TokenCounts(fresh_input_tokens=-3), reason="three too many", actor="ada")
    row = price(model)
    reprice(owner)
    assert cost(owner) == round(EXACT_COST - 3 * RATES.fresh_input_usd / 1_000_000, 10)
    later = adjust(entry.pk, TokenCounts(plain_output_tokens=-1), reason="one more", actor="ada")
    # The entry has no price of its own; the correction that gave it one is what counts.
    assert (later.cost_usd, later.price_id) == (Decimal("-0.00001"), row.pk)
    assert reprice(owner).startswith("booked: +0 USD")


def test_a_cost_that_an_operator_named_is_left_as_it_is(owner: Persona, model: str) -> None:
    price(model)
    entry = book(owner, model)
    goodwill = adjust(entry.pk, TokenCounts(), cost_usd=Decimal("-0.5"), reason="goodwill", actor="ada")
    assert goodwill.price_id is None
    assert reprice(owner).startswith("booked: +0 USD")
    price(model, times(RATES, 2), tenant=owner.tenant.pk)
    reprice(owner)
    assert cost(owner) == booked(2) - Decimal("0.5")


def test_other_months_and_other_payers_are_left_alone(owner: Persona, stranger: Persona, model: str) -> None:
    book(stranger, model)
    book(owner, model)
    price(model)
    call_command("reprice", "--tenant", owner.tenant.slug, "--month", "2001-01", stdout=StringIO())
    assert len(entries(owner)) == 1
    reprice(owner)
    assert (len(entries(owner)), len(entries(stranger))) == (2, 1)


def test_all_tenants_are_re_priced_at_once(owner: Persona, stranger: Persona, model: str) -> None:
    book(owner, model)
    book(stranger, model)
    price(model)
    call_command("reprice", "--all", "--month", f"{clock.today('UTC'):%Y-%m}", stdout=StringIO())
    assert cost(owner) == cost(stranger) == COST


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--tenant", "nobody-is-called-this", "--month", "2026-01"], "There is no tenant"),
        (["--month", "2026-01"], "--tenant --all"),
        (["--all"], "--month"),
        (["--all", "--month", "January"], "YYYY-MM"),
    ],
)
def test_what_cannot_be_re_priced_is_said(database: None, arguments: list[str], complaint: str) -> None:
    with pytest.raises(CommandError, match=complaint):
        call_command("reprice", *arguments, stdout=StringIO())


def test_what_was_corrected_before_is_found_by_index(owner: Persona) -> None:
    month = {"payer": owner.tenant.pk, "month": date(2026, 1, 1), "next": date(2026, 2, 1)}
    with operator_scope("test"):
        # Of a table as small as a test's, everything is read at once otherwise.
        execute("SET LOCAL enable_seqscan = off")
        plan = "\n".join(row["QUERY PLAN"] for row in fetch_all(f"EXPLAIN {repricing._OF_A_MONTH}", month))
    assert "Seq Scan" not in plan
    assert "entry_corrections" in plan
