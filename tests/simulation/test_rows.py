"""Simulated responses: their distribution, and that each is its own whatever surrounds it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import lmmjax as lj
from lmmjax.simulation.normals import as_key, chi_squared, standard_normals
from lmmjax.simulation.rows import RowDesign, simulate_responses, simulate_rows

jitted = jax.jit(simulate_responses, static_argnums=3)


def test_normals_are_normal_and_independent():
    key = as_key(11)
    z = np.asarray(
        jax.jit(jax.vmap(lambda r: standard_normals(jax.random.fold_in(key, r), 401)))(
            jnp.arange(500)
        )
    )
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        error = np.sqrt(variance / z.size)
        assert abs(np.mean(z.astype(np.float64) ** power) - moment) < 4.5 * error
    # Neighbours, and the two halves that share their angles.
    for left, right in ((z[:, :-1], z[:, 1:]), (z[:, :200], z[:, 201:]), (z[:-1], z[1:])):
        assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) < 4.5 / np.sqrt(left.size)
        squares = np.corrcoef(left.ravel() ** 2, right.ravel() ** 2)[0, 1]
        assert abs(squares) < 4.5 / np.sqrt(left.size)


def test_chi_squared_of_every_size():
    df = np.array([0, 1, 2, 3, 8, 47, 1e5])
    with lj.double_precision():
        key = as_key(5)
        draws = np.asarray(
            jax.jit(jax.vmap(lambda r: chi_squared(jax.random.fold_in(key, r), jnp.asarray(df))))(
                jnp.arange(20000)
            )
        )
    assert draws.dtype == np.float64
    assert np.all(draws[:, 0] == 0)
    for j in range(1, df.size):
        assert stats.kstest(draws[:, j], "chi2", args=(df[j],)).pvalue > 1e-3
    assert np.abs(np.corrcoef(draws[:, 1:].T) - np.eye(6)).max() < 4.5 / np.sqrt(len(draws))


@pytest.fixture(scope="module")
def crossed():
    """Two crossed factors, weights, an offset: design and truth."""
    frame = lj.simulate_design({"id": 6}, crossed={"item": 4}, within={"time": [0, 1, 2]})
    rng = np.random.default_rng(1)
    design = lj.Design.from_formula(
        "~ time + (time | id) + (1 | item)",
        frame,
        weights=rng.uniform(0.5, 3, len(frame)),
        offset=rng.normal(0, 5, len(frame)),
    )
    truth = lj.TrueParameters.for_design(
        design,
        {"(Intercept)": 5, "time": -2},
        {"id": [3, 1.5], "item": 2},
        {"id": -0.4},
        sigma=1.7,
    )
    return design, truth


def test_mean_and_covariance_are_those_of_the_model(crossed):
    design, truth = crossed
    draws = simulate_rows(RowDesign.of(design), truth, 20_000, key=2)
    mean = design.X @ truth.beta + design.offset
    V = float(truth.sigma) ** 2 * np.diag(1 / design.weights)
    for term, factor in zip(design.terms, truth.factors, strict=True):
        effects = np.zeros((design.n, len(term.levels), term.Z.shape[1]))
        effects[np.arange(design.n), term.index] = term.Z
        root = (effects @ factor).reshape(design.n, -1)
        V += root @ root.T
    # Whitened, the draws are standard normal.
    white = np.linalg.solve(np.linalg.cholesky(V), (draws - mean).T).T
    size = np.sqrt(len(draws))
    assert np.abs(white.mean(axis=0)).max() < 4.5 / size
    off = white.T @ white / len(draws) - np.eye(design.n)
    assert np.abs(np.diagonal(off)).max() < 4.5 * np.sqrt(2) / size
    assert np.abs(off - np.diag(np.diagonal(off))).max() < 5 / size
    assert stats.kstest(white.ravel(), "norm").pvalue > 1e-3


def test_a_replicate_is_the_same_in_every_chunk(crossed):
    design, truth = crossed
    rows = RowDesign.of(design)
    many = simulate_rows(rows, truth, 21, key=9)
    few = simulate_rows(rows, truth, 5, key=9)
    np.testing.assert_array_equal(many[:5], few)
    with lj.double_precision():
        late = jitted(as_key(9), rows, truth, 3, 18)
    np.testing.assert_allclose(many[18:], late, rtol=0, atol=2e-6)
    assert np.all(simulate_rows(rows, truth, 5, key=10) != few)
    # Of every kind of key, and not the batch's first one alone.
    for kind in ("rbg", "unsafe_rbg", "threefry2x32"):
        drawn = simulate_rows(rows, truth, 4, key=jax.random.key(9, impl=kind))
        assert np.unique(drawn[:, 0]).size == 4
    np.testing.assert_array_equal(drawn, few[:4])


def test_the_same_numbers_in_32_bits(crossed):
    design, truth = crossed
    wide = simulate_rows(RowDesign.of(design), truth, 4, key=3)
    narrow = jitted(as_key(3), RowDesign.of(design), truth, 4)
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, wide, rtol=2e-5, atol=2e-5)


def test_a_fit_simulates_with_new_or_with_its_own_effects(sleep):
    new = sleep.simulate(4000, key=1)
    own = sleep.simulate(4000, key=1, re="fitted")
    np.testing.assert_allclose(new.mean(axis=0), sleep.marginal_mean, atol=5)
    np.testing.assert_allclose(own.mean(axis=0), sleep.conditional_mean, atol=2)
    # Within 4.5 standard errors of a variance.
    error = 4.5 * np.sqrt(2 / 4000)
    np.testing.assert_allclose(own.var(axis=0), sleep.sigma**2, rtol=error)
    expected = np.einsum("na,ab,nb->n", sleep.design.terms[0].Z, sleep.varcorr["Subject"],
                         sleep.design.terms[0].Z) + sleep.sigma**2  # fmt: skip
    np.testing.assert_allclose(new.var(axis=0), expected, rtol=error)
    np.testing.assert_array_equal(sleep.simulate(3, key=1), new[:3])


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"n": 0}, "number of data sets"),
        ({"n": 2.0}, "number of data sets"),
        ({"re": "old"}, "'new' or 'fitted'"),
        ({"key": -1}, "a seed must be"),
        ({"key": "one"}, "key must be a seed"),
        ({"key": np.ones(2)}, "key must be a seed"),
    ],
)
def test_what_cannot_be_simulated_is_said(sleep, arguments, found):
    with pytest.raises(lj.LmmError, match=found):
        sleep.simulate(**arguments)
