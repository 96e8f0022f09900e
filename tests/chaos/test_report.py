"""What a run of the harness says of itself: a fault that never hit proves nothing."""

from collections import Counter

import pytest

from tests.chaos import report
from tests.chaos.plan import PROFILES, Form, Plan, draw, full, short
from tests.chaos.strikes import BETWEEN

FORMS = [pytest.param(full(120), id="full"), pytest.param(short(10), id="short")]


def enough(plan: Plan) -> Counter[str]:
    """Everything hit, no more often than it must."""
    return Counter(dict.fromkeys(plan.kinds, 1)) | Counter({BETWEEN: plan.form.kills})


@pytest.mark.parametrize("form", FORMS)
def test_when_nothing_hit_everything_was_missed(form: Form) -> None:
    plan = draw(1, form, PROFILES)
    assert {*form.events, BETWEEN} <= plan.kinds
    kinds = [f"no fault of this kind hit: {kind}" for kind in sorted(plan.kinds)]
    kills = f"0 kills fell between hold and settle; it takes {form.kills}"
    assert report.missed(plan, Counter()) == [*kinds, kills]


@pytest.mark.parametrize("form", FORMS)
def test_when_everything_hit_nothing_was_missed(form: Form) -> None:
    plan = draw(1, form, PROFILES)
    assert report.missed(plan, enough(plan)) == []


@pytest.mark.parametrize("form", FORMS)
def test_each_kind_that_did_not_hit_is_missed(form: Form) -> None:
    plan = draw(1, form, PROFILES)
    for kind in plan.kinds - {BETWEEN}:
        counted = enough(plan)
        del counted[kind]
        assert report.missed(plan, counted) == [f"no fault of this kind hit: {kind}"]


def test_19_kills_between_hold_and_settle_are_too_few() -> None:
    plan = draw(1, full(120), PROFILES)
    counted = enough(plan)
    counted[BETWEEN] = 19
    assert report.missed(plan, counted) == ["19 kills fell between hold and settle; it takes 20"]
