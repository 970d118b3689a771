from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.slides.camelyon import parse_name
from tasks.slides.synthetic.config import SynthConfig
from tasks.slides.synthetic.plan import plan_cohort


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 5), st.floats(0, 1))
def test_plans_keep_the_numbering_and_the_share_of_negatives(
    slides: int, centres: int, nodes: int, negative: float
) -> None:
    assume(slides <= 20 * centres * nodes)
    config = SynthConfig(slides=slides, centres=centres, nodes_per_patient=nodes, negative_fraction=negative)
    plans = plan_cohort(config)
    assert len({plan.name for plan in plans}) == slides
    for plan in plans:
        name = parse_name(plan.name)
        assert (name.centre, name.patient) == (plan.centre, f"patient_{plan.patient:03}")
    assert {plan.centre for plan in plans} == set(range(min(centres, -(-slides // nodes))))
    assert sum(plan.stage == "negative" for plan in plans) <= round(slides * negative)


def test_the_demonstration_has_patients_of_both_kinds() -> None:
    stages = defaultdict(set)
    plans = plan_cohort(SynthConfig())
    for plan in plans:
        stages[plan.patient].add(plan.stage)
    assert sum(plan.stage == "negative" for plan in plans) == 5
    assert sum(own == {"negative"} for own in stages.values()) == 2
    assert {"macro", "micro", "itc"} <= {plan.stage for plan in plans}
    assert any(plan.pen_mark for plan in plans)
    assert any(plan.black_border for plan in plans)
    assert {plan.groups["tumour"] for plan in plans if plan.stage != "negative"} == {"Tumor", "_0", "metastases"}


@pytest.mark.parametrize(("fraction", "negatives"), [(0.0, 0), (1.0, 12)])
def test_all_or_none(fraction: float, negatives: int) -> None:
    plans = plan_cohort(SynthConfig(negative_fraction=fraction))
    assert sum(plan.stage == "negative" for plan in plans) == negatives


def test_more_slides_than_the_numbering_holds_are_refused() -> None:
    with pytest.raises(ValidationError, match="1 centres hold 40 slides"):
        SynthConfig(slides=41, centres=1, nodes_per_patient=2)


def test_no_centre_is_free_of_tumour_while_another_is_not() -> None:
    plans = plan_cohort(SynthConfig(slides=8, centres=2, nodes_per_patient=1, negative_fraction=0.5))
    for centre in (0, 1):
        stages = [plan.stage for plan in plans if plan.centre == centre]
        assert stages.count("negative") == 2
        assert len(stages) == 4
