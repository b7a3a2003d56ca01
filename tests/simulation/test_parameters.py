"""True parameters: what is given comes back, and what is wrong is named."""

import jax
import numpy as np
import pytest

import lmmjax as lj


@pytest.fixture(scope="module")
def design():
    frame = lj.simulate_design(
        {"school": 6},
        nested={"pupil": 4},
        within={"time": [0, 1, 2]},
        between={"arm": ["control", "active"]},
    )
    return lj.Design.from_formula("~ time * arm + (time | pupil) + (1 | school)", frame)


@pytest.fixture(scope="module")
def truth(design):
    return lj.TrueParameters.for_design(
        design,
        fixed={"(Intercept)": 50, "time:armactive": 1.5},
        sd={"pupil": {"time": 2, "(Intercept)": 10}, "school": 4},
        correlation={"pupil": {("time", "(Intercept)"): 0.25}},
        sigma=5,
    )


def test_what_is_given_comes_back(truth):
    assert truth.x_names == ("(Intercept)", "time", "armactive", "time:armactive")
    assert truth.beta.tolist() == [50, 0, 0, 1.5]
    np.testing.assert_allclose(truth.covariance["pupil"], [[100, 5], [5, 4]])
    np.testing.assert_allclose(truth.covariance["school"], [[16]])
    assert float(truth.sigma) == 5
    for factor in truth.factors:
        assert np.all(np.triu(factor, 1) == 0)
        assert np.all(np.diagonal(factor) > 0)


def test_the_same_covariance_can_be_said_in_many_ways(design, truth):
    ways = [
        {"sd": {"pupil": [10, 2], "school": [4]}, "correlation": {"pupil": 0.25}},
        {
            "sd": {"pupil": [10, 2], "school": {"(Intercept)": 4}},
            "correlation": {"pupil": [[1, 0.25], [0.25, 1]]},
        },
        {"covariance": {"pupil": [[100, 5], [5, 4]], "school": 16}},
        {"covariance": {"pupil": [[100, 5], [5, 4]]}, "sd": {"school": 4}},
    ]
    for way in ways:
        made = lj.TrueParameters.for_design(design, [50, 0, 0, 1.5], sigma=5, **way)
        for ours, theirs in zip(made.factors, truth.factors, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_one_thing_changes_at_a_time(truth):
    changed = truth.with_fixed({"time:armactive": 3}, time=2)
    assert changed.beta.tolist() == [50, 2, 0, 3]
    assert truth.beta.tolist() == [50, 0, 0, 1.5]
    assert changed.covariance["pupil"].tolist() == truth.covariance["pupil"].tolist()
    sds = truth.with_sd({"pupil": {"time": 4}})
    np.testing.assert_allclose(sds.covariance["pupil"], [[100, 10], [10, 16]])
    none = truth.with_sd({"pupil": {"time": 0}})
    np.testing.assert_allclose(none.covariance["pupil"], [[100, 0], [0, 0]], atol=1e-12)
    turned = truth.with_correlation({"pupil": -1})
    np.testing.assert_allclose(turned.covariance["pupil"], [[100, -20], [-20, 4]])
    assert float(truth.with_sigma(2).sigma) == 2


def test_a_fit_gives_its_estimates(sleep):
    truth = lj.TrueParameters.from_fit(sleep)
    np.testing.assert_array_equal(truth.beta, sleep.beta)
    np.testing.assert_allclose(truth.covariance["Subject"], sleep.varcorr["Subject"], rtol=1e-12)
    assert str(truth).splitlines()[:4] == [
        line.rstrip() for line in str(sleep.varcorr).splitlines()
    ]


def test_names_are_needed_only_where_there_is_a_choice():
    frame = lj.simulate_design({"id": 9}, within={"time": [0, 1, 2]})
    design = lj.Design.from_formula("~ time + (time || id)", frame)
    truth = lj.TrueParameters.for_design(design, sd={"(Intercept)": 3, "time": 1}, sigma=1)
    assert truth.sd == {"id": {"(Intercept)": 3.0, "time": 1.0}}
    with pytest.raises(lj.LmmError, match="keeps '\\(Intercept\\)' and 'time' of 'id' independent"):
        lj.TrueParameters.for_design(design, sd=[3, 1], correlation=0.5, sigma=1)


def test_it_is_a_pytree_of_its_numbers(truth):
    leaves = jax.tree.leaves(truth)
    assert [np.shape(leaf) for leaf in leaves] == [(4,), (2, 2), (1, 1), ()]
    doubled = jax.tree.map(lambda leaf: 2 * leaf, truth)
    assert doubled.fixed["(Intercept)"] == 100
    shown = []
    jax.jit(lambda t: shown.append(repr(t)) or t.sigma)(truth)
    assert "'time:armactive'" in shown[0]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (
            {"fixed": {"times": 1}},
            "no fixed effect 'times'; the coefficients are '\\(Intercept\\)'",
        ),
        ({"fixed": [1, 2]}, "must be 4 finite numbers"),
        ({"fixed": {"time": "big"}}, "must be a finite number, not 'big'"),
        (
            {"sd": {"pupils": 1}},
            "'pupils', which the model does not have; it has 'pupil', 'school'",
        ),
        ({"sd": {"school": 4}}, "'pupil' .* need standard deviations"),
        ({"sd": {"pupil": {"time": 1}, "school": 4}}, "lacks '\\(Intercept\\)'"),
        ({"sd": {"pupil": {"slope": 1}, "school": 4}}, "no random effect of 'pupil' 'slope'"),
        ({"sd": {"pupil": [1, -1], "school": 4}}, "cannot be negative"),
        ({"correlation": {"pupil": 1.2}}, "between -1 and 1"),
        ({"correlation": {"pupil": {"time": 0.5}}}, "by pairs of effects"),
        ({"correlation": {"pupil": {("time", "arm"): 0.5}}}, "no random effect 'arm'"),
        ({"correlation": {"pupil": np.eye(3)}}, "must have shape \\(2, 2\\)"),
        ({"covariance": {"pupil": np.eye(2)}}, "not to be given too"),
        ({"sd": {"school": 4}, "covariance": {"pupil": [[1, 2], [2, 1]]}}, "negative eigenvalue"),
        ({"sd": {"school": 4}, "covariance": {"pupil": [[1, 2], [0, 1]]}}, "symmetric"),
        ({"sd": 3}, "mapping by grouping factor"),
        ({"sigma": 0}, "sigma must be positive"),
    ],
)
def test_what_is_wrong_is_named(design, arguments, found):
    usual = {"sd": {"pupil": [10, 2], "school": 4}, "sigma": 5}
    with pytest.raises(lj.LmmError, match=found):
        lj.TrueParameters.for_design(design, **{**usual, **arguments})
