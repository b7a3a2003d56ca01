"""What must not change an answer: every consumer of a fit, on random models."""

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from consumers import Scale, assert_alike
from hypothesis import assume, given
from random_models import BARS, FIXED, LEVELS, THOROUGH, examples, models

GROUPINGS = pytest.mark.parametrize("grouping", list(BARS))
#: Powers of ten of a unit.
POWERS = st.integers(-12, 12)
#: Origins, in standard deviations.
SHIFTS = st.sampled_from((0.0, 1.0, -1e3, 1e6, -1e9))


def dear(grouping):
    """Whether consumers that compile are read too: for one kind of model in a short run."""
    return THOROUGH or grouping == "one"


@GROUPINGS
@given(data=st.data())
@examples(3)
def test_nothing_depends_on_units(grouping, data):
    model = data.draw(models(grouping))
    y = 10.0 ** data.draw(POWERS)
    units = {name: 10.0 ** data.draw(POWERS) for name in model.covariates}
    columns = {name: model.frame[name] * unit for name, unit in units.items()}
    other = model.with_frame(y=model.frame.y * y, **columns)
    assert_alike(model.fit(), other.fit(), Scale(y, 0.0, units), dear=dear(grouping))


@GROUPINGS
@given(data=st.data())
@examples(3)
def test_nothing_depends_on_origins(grouping, data):
    model = data.draw(models(grouping))
    shifts = {name: data.draw(SHIFTS) for name in ("y", *model.free_origins)}
    away = {name: model.frame[name] + shift for name, shift in shifts.items()}
    # What was lost in the sum is lost here too, for this difference is exact.
    near = {name: away[name] - shift for name, shift in shifts.items()}
    assert_alike(
        model.with_frame(**near).fit(),
        model.with_frame(**away).fit(),
        Scale(1.0, shifts["y"]),
        dear=dear(grouping),
        without=("origin",),
        rtol=1e-5,  # a double has 7 digits left beside an origin of 1e9
    )


@GROUPINGS
@given(data=st.data())
@examples(2)
def test_nothing_depends_on_the_order_of_rows(grouping, data):
    model = data.draw(models(grouping))
    order = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1))).permutation(
        len(model.frame)
    )
    other = model.but(frame=model.frame.iloc[order])
    reading = {"dear": dear(grouping), "without": ("place",)}
    assert_alike(model.fit(), other.fit(), **reading)


@GROUPINGS
@given(data=st.data())
@examples(3)
def test_nothing_depends_on_the_order_of_levels(grouping, data):
    model = data.draw(models(grouping))
    assume(model.factors)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    columns = {
        name: pd.Categorical(model.frame[name], rng.permutation(model.frame[name].cat.categories))
        for name in model.factors
    }
    reading = {"dear": dear(grouping), "without": ("coef", "place"), "spans": True}
    assert_alike(model.fit(), model.with_frame(**columns).fit(), **reading)


@GROUPINGS
@given(data=st.data())
@examples(2)
def test_nothing_but_type_one_depends_on_the_order_of_terms(grouping, data):
    model = data.draw(models(grouping, tuple(set(FIXED) - {"s"})))
    assume("+" in model.fixed or "*" in model.fixed)
    mark = " + " if " + " in model.fixed else " * "
    parts = model.fixed.split(mark)
    parts = data.draw(st.permutations(parts))
    bars = model.bars
    if grouping == "crossed" and data.draw(st.booleans()):
        bars = " + ".join(reversed(bars.split(" + ")))
    other = model.but(fixed=mark.join(parts), bars=bars)
    reading = {"dear": dear(grouping), "without": ("type-one", "place", "coef"), "spans": True}
    assert_alike(model.fit(), other.fit(), **reading)


@GROUPINGS
@given(data=st.data())
@examples(2)
def test_nothing_depends_on_the_names_of_groups(grouping, data):
    model = data.draw(models(grouping))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    columns, names = {}, {}
    for name in "ghab":
        old = sorted(set(model.frame[name]))
        new = [f"{name}_{i}" for i in rng.permutation(len(old))]
        columns[name] = model.frame[name].map(dict(zip(old, new, strict=True)))
        names |= dict(zip(new, old, strict=True))
    reading = {"dear": dear(grouping), "without": ("place",)}
    assert_alike(model.fit(), model.with_frame(**columns).fit(), Scale(groups=names), **reading)


@GROUPINGS
@given(data=st.data())
@examples(3)
def test_nothing_but_coefficients_depends_on_the_coding(grouping, data):
    with_factors = tuple(fixed for fixed in FIXED if set(fixed) & set(LEVELS))
    model = data.draw(models(grouping, with_factors))
    names = ("contr.sum", "contr.helmert", "contr.poly", "contr.treatment")
    coding = {name: data.draw(st.sampled_from(names)) for name in model.factors}
    reading = {"dear": dear(grouping), "without": ("coef", "place"), "spans": True}
    assert_alike(model.fit(), model.fit(contrasts=coding), **reading)


@given(data=st.data())
@examples(3)
def test_nested_groups_are_groups_and_groups_in_groups(data):
    model = data.draw(models("nested"))
    other = model.but(bars="(1 | a) + (1 | a:b)")
    assert_alike(model.fit(), other.fit(), dear=THOROUGH)
