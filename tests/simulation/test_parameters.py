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


def crossed(subjects, formula="~ 1 + (1 | subject) + (1 | item)"):
    frame = lj.simulate_design({"subject": subjects}, crossed={"item": 10}, within={"x": [0, 1, 2]})
    frame["z"] = frame["x"] ** 2.0
    return lj.Design.from_formula(formula, frame)


def test_parameters_are_matched_by_name():
    # Terms are sorted by their number of levels: with more subjects they change places.
    pilot = crossed(8)
    truth = lj.TrueParameters.for_design(pilot, [3], {"subject": 5, "item": 0.5}, sigma=0.1)
    larger = lj.extend(pilot, along="subject", n=30)
    assert truth.groups == ("item", "subject")
    assert truth.aligned(larger).groups == ("subject", "item")
    assert truth.aligned(larger).sd == {"subject": {"(Intercept)": 5}, "item": {"(Intercept)": 0.5}}
    assert truth.aligned(pilot) is truth
    # In what is simulated: rows that share only their subject, or only their item, by theory.
    Y = lj.simulate(larger, truth, 2000, key=1) - 3
    subject, item = (term.index for term in larger.terms)
    other = np.flatnonzero((subject == subject[0]) & (item != item[0]))[0]
    far = np.flatnonzero((subject != subject[0]) & (item == item[0]))[0]
    # A product of normals with variance V varies by at most V sqrt(2).
    error = 4.5 * 25.3 * np.sqrt(2 / 2000)
    assert abs(np.mean(Y[:, 0] * Y[:, other]) - 25) < error
    assert abs(np.mean(Y[:, 0] * Y[:, far]) - 0.25) < error


def test_coefficients_and_effects_are_matched_within_a_model():
    one = crossed(8, "~ 0 + x + z + (1 + x + z | subject) + (1 | item)")
    other = crossed(8, "~ 0 + z + x + (1 + z + x | subject) + (1 | item)")
    assert one.x_names == other.x_names[::-1]
    first, second = one.terms[1].columns, other.terms[1].columns
    assert first != second
    assert set(first) == set(second)
    truth = lj.TrueParameters.for_design(
        one, [1, 2], {"subject": [3, 2, 1], "item": 4}, {"subject": [[1, 0.5, 0.2], [0.5, 1, -0.3],
        [0.2, -0.3, 1]]}, sigma=1)  # fmt: skip
    moved = truth.aligned(other)
    assert moved.fixed == truth.fixed
    assert moved.x_names == other.x_names
    order = [first.index(name) for name in second]
    np.testing.assert_allclose(
        moved.covariance["subject"], truth.covariance["subject"][np.ix_(order, order)], rtol=1e-12
    )
    assert np.all(np.triu(moved.factors[1], 1) == 0)
    back = moved.aligned(one)
    for ours, theirs in zip(back.factors, truth.factors, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize(
    ("formula", "found"),
    [
        ("~ x + (1 + x | subject) + (1 | item)", "lack the coefficient 'x' of the design"),
        ("~ 0 + (1 + x | subject) + (1 | item)", "have the coefficient '\\(Intercept\\)', which"),
        ("~ 1 + (1 + x | subject)", "have the grouping factor 'item', which the design does not"),
        ("~ 1 + (1 | subject) + (1 | item)", "have the random effect 'x' of 'subject', which"),
        ("~ 1 + (1 + x | subject) + (1 + x | item)", "lack the random effect 'x' of 'item'"),
        ("~ 1 + (1 + x || subject) + (1 | item)", "independent: they cannot be correlated"),
    ],
)
def test_parameters_of_another_model_are_refused(formula, found):
    design = crossed(8, "~ 1 + (1 + x | subject) + (1 | item)")
    truth = lj.TrueParameters.for_design(
        design, sd={"subject": [2, 1], "item": 1}, correlation={"subject": 0.5}, sigma=1
    )
    other = crossed(8, formula)
    for use in (lj.simulate, lj.fit_simulated, lj.power):
        with pytest.raises(lj.LmmError, match=found):
            use(other, truth, *([1] if use is lj.fit_simulated else []))


def test_parameters_must_be_parameters():
    for use in (lj.simulate, lj.power):
        with pytest.raises(lj.LmmError, match=r"must be lj\.TrueParameters .* not dict"):
            use(crossed(8), {"x": 1})


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
