"""Layouts of studies, and designs without a response."""

import numpy as np
import pytest

import lmmjax as lj


def test_within_values_run_through_their_combinations():
    frame = lj.simulate_design({"id": 3}, within={"time": [0, 2, 5], "dose": ["low", "high"]})
    assert frame["time"].tolist() == [0, 0, 2, 2, 5, 5] * 3
    assert frame["dose"].tolist() == ["low", "high"] * 9
    # In the order given: text would sort "high" first and make it the reference.
    assert frame["dose"].cat.categories.tolist() == ["low", "high"]
    assert frame["id"].value_counts().tolist() == [6, 6, 6]


def test_values_begin_again_or_are_cut_to_the_rows_of_a_group():
    frame = lj.simulate_design(2, per_group=[5, 2], within={"time": [0, 1, 2]})
    assert frame["time"].tolist() == [0, 1, 2, 0, 1, 0, 1]
    frame = lj.simulate_design(2, per_group=[4, 2], within={"time": "index"})
    assert frame["time"].tolist() == [0, 1, 2, 3, 0, 1]


def test_between_combinations_are_spread_evenly():
    frame = lj.simulate_design(
        {"id": 36},
        per_group=1,
        between={"arm": ["control", "active"], "site": 3, "sex": {"f": 20, "m": 10}},
    )
    counts = frame.groupby(["arm", "site"], observed=True).size()
    assert counts.tolist() == [6] * 6
    assert frame["sex"].value_counts().to_dict() == {"f": 24, "m": 12}
    assert (frame.groupby("id", observed=True)["arm"].nunique() == 1).all()


@pytest.mark.parametrize(
    ("shares", "groups", "found"),
    [
        ({"a": 2, "b": 3}, 7, ({"a": 3, "b": 4},)),
        ({"a": 33, "b": 67}, 150, ({"a": 50, "b": 100}, {"a": 49, "b": 101})),
        ({"a": 33, "b": 67}, 50, ({"a": 17, "b": 33}, {"a": 16, "b": 34})),
        ({"a": 1, "b": 1, "c": 2}, 9, ({"a": 2, "b": 2, "c": 5},)),
        (["a", "b", "b"], 10, ({"a": 3, "b": 7},)),
    ],
)
def test_shares_are_kept_to_the_nearest_whole_group(shares, groups, found):
    frame = lj.simulate_design({"id": groups}, 1, between={"arm": shares})
    assert frame["arm"].value_counts().to_dict() in found


def test_each_covariate_keeps_its_shares_where_combinations_cannot():
    # Six groups in four cells: two cells come twice, and they are not both of one arm.
    frame = lj.simulate_design({"id": 6}, 1, between={"arm": 2, "sex": 2})
    assert frame["arm"].value_counts().tolist() == frame["sex"].value_counts().tolist() == [3, 3]
    with pytest.raises(lj.LmmError, match="10 groups are too few for the share of 'a'"):
        lj.simulate_design({"id": 10}, 1, between={"arm": {"a": 1, "b": 99}})


def test_crossed_factors_meet_every_group_and_have_covariates():
    frame = lj.simulate_design(
        {"subject": 5},
        crossed={"item": 4},
        within={"x": [0, 1]},
        between={"arm": ["a", "b"], "item": {"kind": ["word", "nonword"]}},
    )
    assert frame.groupby(["subject", "item"], observed=True).size().tolist() == [2] * 20
    assert (frame.groupby("item", observed=True)["kind"].nunique() == 1).all()
    assert frame.groupby("kind", observed=True)["item"].nunique().to_dict() == {
        "word": 2,
        "nonword": 2,
    }


def test_nested_units_have_labels_of_their_own():
    frame = lj.simulate_design(
        {"school": 4}, nested={"class": 3}, per_group=2, between={"class": {"size": "normal"}}
    )
    assert len(frame) == 24
    assert frame["class"].nunique() == 12
    assert (frame.groupby("class", observed=True)["school"].nunique() == 1).all()
    assert frame["size"].nunique() == 12
    design = lj.Design.from_formula("y ~ size + (1 | school/class)", frame)
    assert [len(term.levels) for term in design.terms] == [12, 4]


def test_dropout_is_monotone_and_as_frequent_as_said():
    frame = lj.simulate_design(4000, within={"time": range(4)}, dropout=[0.0, 0.3, 0.5], seed=3)
    stay = frame.groupby("time").size().to_numpy() / 4000
    expected = np.array([1.0, 1.0, 0.7, 0.35])
    error = np.sqrt(expected * (1 - expected) / 4000)
    assert np.all(np.abs(stay - expected) <= 4 * error)
    times = frame.groupby("group", observed=True)["time"].agg(["size", "max"])
    assert (times["size"] == times["max"] + 1).all()


def test_random_parts_follow_the_seed():
    def make(seed):
        return lj.simulate_design(
            30,
            per_group=("poisson", 4),
            within={"x": "normal", "u": lambda rng, n: rng.random(n)},
            seed=seed,
        )

    assert make(1).equals(make(1))
    assert not make(1).equals(make(2))
    sizes = lj.simulate_design(2000, per_group=("uniform", 2, 4)).groupby("group", observed=True)
    assert sorted(set(sizes.size())) == [2, 3, 4]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"groups": 0}, "groups must be a whole number"),
        ({"groups": {"a": 2, "b": 3}}, "groups names one factor"),
        ({"groups": 5}, "per_group is needed"),
        ({"per_group": 2.5}, "whole number of at least 1, not 2.5"),
        ({"groups": 4, "per_group": [1, 2]}, "there are 4 units"),
        ({"per_group": ("gamma", 2)}, "'poisson', mean"),
        ({"within": {"x": "gaussian"}}, "within\\['x'\\]"),
        ({"within": {"x": []}}, "has no values"),
        ({"within": {"x": [1]}, "between": {"x": [1]}}, "'x' is used"),
        ({"groups": 3, "per_group": 1, "between": {"a": 2, "b": 2}}, "4 combinations"),
        ({"crossed": {"item": 4}, "between": {"item": ["a"]}}, "covariates of the factor 'item'"),
        ({"within": {"time": [0, 1]}, "dropout": 1.5}, "dropout must be"),
        ({"per_group": 2, "dropout": "some"}, "dropout must be"),
        ({"per_group": 2, "seed": -1}, "seed must be"),
        ({"within": [0, 1]}, "within must be a mapping"),
        ({"crossed": {"item": 4}, "dropout": 0.1}, "dropout needs an order"),
        ({"per_group": 2, "within": {"x": lambda rng, n: rng.random(3)}}, "gave shape \\(3,\\)"),
    ],
)
def test_what_is_not_possible_is_said(arguments, found):
    with pytest.raises(lj.LmmError, match=found):
        lj.simulate_design(**arguments)


def test_a_design_without_a_response_equals_one_with(fits):
    data = fits.data("sleepstudy")
    full = lj.build_design("Reaction ~ Days + (Days | Subject)", data)
    bare = lj.Design.from_formula("~ Days + (Days | Subject)", data.drop(columns="Reaction"))
    named = lj.Design.from_formula("log(Reaction) ~ Days + (Days | Subject)", data)
    for design in (bare, named):
        assert np.isnan(design.y).all()
        np.testing.assert_array_equal(design.X, full.X)
        np.testing.assert_array_equal(design.terms[0].Z, full.terms[0].Z)
        again = lj.cross_products(lj.prepare_design(design), full.y)
        assert float(again.scale) == float(lj.cross_products(lj.prepare_design(full), full.y).scale)
    # A response that is not there yet cannot lose rows.
    gap = data.assign(Reaction=np.nan)
    assert lj.Design.from_formula("Reaction ~ Days + (Days | Subject)", gap).n == len(data)
    with pytest.raises(lj.DataError, match="not finite in row 0"):
        lj.cross_products(lj.prepare_design(bare), bare.y)
