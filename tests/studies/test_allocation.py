"""The best division of a budget: against its closed form, all whole designs, and simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import lmmjax as lj

TAU, SIGMA = 2.0, 6.0
ECONOMY = {"cost_per_group": 100, "cost_per_row": 5}


def schools(groups, per_group):
    """Two arms of schools: the effect is one between groups."""
    frame = lj.simulate_design({"id": groups}, per_group, between={"arm": 2})
    return lj.Design.from_formula("y ~ arm + (1 | id)", frame)


def occasions(groups, per_group):
    """More rows are further occasions, which tell more of a slope than the same ones again."""
    frame = lj.simulate_design({"id": groups}, within={"time": range(per_group)})
    return lj.Design.from_formula("y ~ time + (1 + time | id)", frame)


def in_schools(effect):
    return lambda design: lj.TrueParameters.for_design(
        design, {"armarm2": effect}, sd=TAU, sigma=SIGMA
    )


def in_time(design):
    return lj.TrueParameters.for_design(design, {"time": 1}, sd=[3, 1], sigma=4)


def best_by_enumeration(make, truth, test, budget, cost_per_group, cost_per_row, step, rows):
    found = {}
    for m in rows:
        most = int(budget / (cost_per_group + m * cost_per_row))
        for groups in {most - most % step, most - most % step - step}:
            if groups >= 4:
                design = make(groups, m)
                found[groups, m] = lj.analytic_power(design, truth(design), test).power
    return max(found, key=found.get), found


def test_rows_are_those_of_the_closed_form():
    # Snijders & Bosker (1993): sqrt(c_g / c_r (1 - rho) / rho), where df do not matter any more.
    best = lj.optimize_design(schools, in_schools(0.35), budget=200_000, group_step=2, **ECONOMY)
    rows = np.sqrt(100 / 5 * SIGMA**2 / TAU**2)
    assert best.optimum_sizes[1] == pytest.approx(rows, rel=2e-3)
    assert best.optimum_sizes[0] == pytest.approx(200_000 / (100 + 5 * rows), rel=2e-3)
    assert best.per_group in (13, 14)
    # At the optimum a unit of money buys the same in groups as in rows.
    at = best.optimum
    slopes = at.gradient.set_index("part")["slope"]
    group, row = 100 + 5 * best.optimum_sizes[1], 5 * best.optimum_sizes[0]
    assert slopes["groups"] / group == pytest.approx(slopes["per_group"] / row, rel=1e-3)


@pytest.mark.parametrize(
    ("make", "truth", "test", "budget", "step", "rows"),
    [
        (schools, in_schools(3.0), "armarm2", 3000, 2, range(2, 40)),
        (occasions, in_time, "time", 3000, 1, range(3, 20)),
    ],
    ids=["between groups", "further occasions"],
)
def test_none_of_all_whole_designs_is_better(make, truth, test, budget, step, rows):
    best = lj.optimize_design(
        make, truth, test, budget=budget, group_step=step, per_group=(2, 39), **ECONOMY
    )
    (groups, m), found = best_by_enumeration(
        make, truth, test, budget, *ECONOMY.values(), step, rows
    )
    assert (best.groups, best.per_group) == (groups, m)
    assert best.power == pytest.approx(found[groups, m], rel=1e-10)
    assert best.cost == groups * (100 + 5 * m) <= budget
    table = best.compared
    assert table["power"].is_monotonic_decreasing
    assert (table["cost"] <= budget).all()
    real = make(groups + step, m)
    more = lj.analytic_power(real, truth(real), test).power - best.power
    assert best.one_more[0] * step == pytest.approx(more, rel=0.1)


def test_a_pilot_is_made_larger_and_simulation_confirms(fits):
    pilot = fits("sleepstudy", "Reaction ~ Days + (1 + Days | Subject)")
    truth = lj.TrueParameters.from_fit(pilot).with_fixed(Days=4)
    best = lj.optimize_design(
        pilot,
        truth,
        "Days",
        budget=2500,
        cost_per_group=50,
        cost_per_row=5,
        row_step=10,
        confirm=4000,
        key=1,
    )
    assert best.per_group % 10 == 0
    assert best.design.X.shape[0] == best.groups * best.per_group
    found = best.confirmed
    error = np.sqrt(best.power * (1 - best.power) / 4000)
    assert abs(found.power - best.power) < 4 * error
    assert "By simulation" in str(best)
    assert f"{best.groups} groups x {best.per_group} rows" in str(best)


def test_limits_and_dropout():
    few = lj.optimize_design(
        schools, in_schools(3.0), budget=3000, group_step=2, groups=(4, 12), **ECONOMY
    )
    assert few.groups == 12
    assert few.per_group == int((3000 / 12 - 100) / 5)

    def leaving(groups, per_group):
        frame = lj.simulate_design(
            {"id": groups}, within={"time": range(per_group)}, dropout=0.1, seed=1
        )
        return lj.Design.from_formula("y ~ time + (1 + time | id)", frame)

    best = lj.optimize_design(
        leaving, in_time, "time", budget=1500, per_group=(4, 5), groups=(10, 12), **ECONOMY
    )
    # Rows that were planned are paid for, also those that are lost.
    assert best.cost == best.groups * (100 + 5 * best.per_group)
    assert best.design.X.shape[0] < best.groups * best.per_group


def test_errors():
    pair = lj.simulate_design({"id": 20}, crossed={"item": 6})
    crossed = lj.Design.from_formula("y ~ 1 + (1 | id) + (1 | item)", pair)
    items = lj.TrueParameters.for_design(crossed, [1.0], sd={"id": 1, "item": 1}, sigma=1)

    def joined(groups, per_group):
        frame = lj.simulate_design({"id": groups}, crossed={"item": per_group})
        return lj.Design.from_formula("y ~ 1 + (1 | id) + (1 | item)", frame)

    money = {"budget": 3000, **ECONOMY}
    for arguments, options, match in (
        ((schools,), money, "no truth"),
        ((crossed, items), money, "2 grouping factors"),
        ((joined, lambda _: items), money, "crossed factors join them"),
        ((schools, in_schools(0.0)), money, "is true"),
        ((schools, in_schools(50.0)), money, "certainty"),
        ((schools, in_schools(1.0)), {**money, "budget": 100}, "too small"),
        ((schools, in_schools(1.0)), {**money, "budget": -1}, "budget must be"),
        ((schools, in_schools(1.0)), {**money, "budget": "3000"}, "budget must be"),
        ((schools, in_schools(1.0)), {**money, "cost_per_row": np.nan}, "cost_per_row must be"),
        (
            (schools, in_schools(1.0)),
            {**money, "cost_per_row": 0, "cost_per_group": 0},
            "cost nothing",
        ),
        ((schools, in_schools(1.0)), {**money, "cost_per_row": 0}, "does not limit"),
        ((schools, in_schools(1.0)), {**money, "group_step": 0}, "group_step must be"),
        ((schools, in_schools(1.0)), {**money, "row_step": 1.5}, "row_step must be"),
        ((schools, in_schools(1.0)), {**money, "confirm": -5}, "confirm must be"),
        ((schools, in_schools(1.0)), {**money, "groups": (9, 3)}, "groups must be"),
        ((schools, in_schools(1.0)), {**money, "alpha": 0.0}, "alpha"),
    ):
        with pytest.raises(lj.LmmError, match=match):
            lj.optimize_design(*arguments, **options)


def test_costs_decide():
    # Dear groups: more rows in each. Dear rows: more groups.
    sizes = [
        lj.optimize_design(
            schools,
            in_schools(2.0),
            budget=4000,
            cost_per_group=group,
            cost_per_row=row,
            group_step=2,
        ).per_group
        for group, row in ((10, 10), (50, 5), (200, 1))
    ]
    assert all(a < b for a, b in itertools.pairwise(sizes))
