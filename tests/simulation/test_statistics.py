"""Statistics simulated without rows: distributed as those of simulated rows, and as theory says."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import lmmjax as lj
from lmmjax.simulation.normals import as_key
from lmmjax.simulation.rows import RowDesign, simulate_rows
from lmmjax.simulation.statistics import simulate_cross_products, statistics_sampler


def flat(data):
    """All that a response adds to the cross-products, as one vector."""
    parts = (data.elimination.moments, data.elimination.within, data.beta_ols, data.scale)
    return [*parts, data.start]


@partial(jax.jit, static_argnums=3)
def many(key, sampler, truth, replicates):
    def one(r):
        return flat(simulate_cross_products(jax.random.fold_in(key, r), sampler, truth))

    return jax.vmap(one)(jnp.arange(replicates))


def draw(prepared, truth, replicates, key):
    """Statistics of many replicates, shape (replicates, numbers)."""
    with lj.double_precision():
        drawn = many(as_key(key), statistics_sampler(prepared), truth, replicates)
    return np.concatenate([np.asarray(x).reshape(replicates, -1) for x in drawn], axis=1)


def of_rows(design, prepared, truth, replicates, key):
    """The same of simulated rows."""
    Y = simulate_rows(RowDesign.of(design), truth, replicates, key)
    made = [flat(lj.cross_products(prepared, y)) for y in Y]
    return np.array([np.concatenate([np.ravel(x) for x in each]) for each in made])


def unbalanced():
    """Groups of 1 to 4 rows (some too few for their slope), weights, a covariate within groups."""
    frame = lj.simulate_design(
        {"id": 14}, per_group=("uniform", 1, 4), within={"time": "index", "x": "normal"}, seed=1
    )
    weights = np.random.default_rng(3).uniform(0.5, 2, len(frame))
    design = lj.Design.from_formula("~ time + x + (time | id)", frame, weights=weights)
    truth = lj.TrueParameters.for_design(design, [5, 3, 1], [10, 2], -0.5, sigma=5)
    return design, truth


def few_groups():
    """Fewer groups than random and fixed effects: the Wishart part is singular."""
    frame = lj.simulate_design({"id": 6}, within={"time": range(4), "x": "normal"}, seed=2)
    frame["square"] = frame["time"] ** 2.0
    design = lj.Design.from_formula("~ time + x + (time + square | id)", frame)
    truth = lj.TrueParameters.for_design(design, [5, 3, 1], [3, 2, 1], 0.3, sigma=2)
    return design, truth


@pytest.mark.parametrize("case", [unbalanced, few_groups])
def test_the_same_distribution_as_from_rows(case):
    design, truth = case()
    prepared = lj.prepare_design(design)
    n = 2000
    ours, theirs = draw(prepared, truth, n, key=1), of_rows(design, prepared, truth, n, key=2)
    spread = theirs.std(axis=0)
    varies = spread > 1e-9
    # What the design fixes is fixed.
    np.testing.assert_allclose(ours[:, ~varies], theirs[:, ~varies], atol=1e-9)
    ours, theirs = ours[:, varies], theirs[:, varies]
    p = [stats.ks_2samp(a, b).pvalue for a, b in zip(ours.T, theirs.T, strict=True)]
    assert min(p) > 1e-2 / len(p)

    # Jointly: random projections of the standardised numbers, linear and quadratic.
    rng = np.random.default_rng(0)
    centre, spread = theirs.mean(axis=0), theirs.std(axis=0)
    a, b = (ours - centre) / spread, (theirs - centre) / spread
    directions = rng.standard_normal((a.shape[1], 40)) / np.sqrt(a.shape[1])
    other = rng.standard_normal((a.shape[1], 40)) / np.sqrt(a.shape[1])
    pairs = [(a @ directions, b @ directions)]
    pairs.append((pairs[0][0] * (a @ other), pairs[0][1] * (b @ other)))
    p = [
        stats.ks_2samp(u, v).pvalue
        for left, right in pairs
        for u, v in zip(left.T, right.T, strict=True)
    ]
    assert min(p) > 1e-2 / len(p)


G, T, tau, sigma = 9, 4, 3.0, 2.0


def one_way():
    frame = lj.simulate_design({"id": G}, per_group=T)
    design = lj.Design.from_formula("~ 1 + (1 | id)", frame)
    return design, lj.TrueParameters.for_design(design, [7], sd=tau, sigma=sigma)


def test_a_balanced_design_has_its_mean_squares():
    """One-way layout: independent chi-squared mean squares, and the mean, by theory."""
    design, truth = one_way()
    drawn = draw(lj.prepare_design(design), truth, 20_000, key=4)
    # moments (2 x 2), within (2 x 2), beta, scale, start: of the unit residual
    scale2 = drawn[:, 9] ** 2
    between, within, mean = drawn[:, 3] * scale2, drawn[:, 7] * scale2, drawn[:, 8]
    expected = sigma**2 + T * tau**2
    assert stats.kstest(between / expected, "chi2", args=(G - 1,)).pvalue > 1e-3
    assert stats.kstest(within / sigma**2, "chi2", args=(G * (T - 1),)).pvalue > 1e-3
    assert stats.kstest((mean - 7) / np.sqrt(expected / (G * T)), "norm").pvalue > 1e-3
    correlation = np.corrcoef([between, within, mean]) - np.eye(3)
    assert np.abs(correlation).max() < 4.5 / np.sqrt(len(drawn))


def test_a_replicate_is_the_same_beside_any_others():
    design, truth = one_way()
    prepared = lj.prepare_design(design)
    many, few = draw(prepared, truth, 20_000, key=4), draw(prepared, truth, 3, key=4)
    np.testing.assert_allclose(many[:3], few, rtol=1e-5, atol=1e-5)
    assert np.unique(many[:, 9]).size > 19_990


def test_designs_that_need_rows_say_so():
    frame = lj.simulate_design({"id": 8}, crossed={"item": 6})
    design = lj.Design.from_formula("~ 1 + (1 | id) + (1 | item)", frame)
    with pytest.raises(lj.LmmError, match="simulate rows"):
        statistics_sampler(lj.prepare_design(design))


def test_designs_of_similar_size_share_what_is_compiled():
    """Samplers of one shape: whatever the number of groups, of their designs, and of the ranks."""

    def sampler(sizes, seed):
        frame = lj.simulate_design({"id": len(sizes)}, sizes, {"time": "index"}, seed=seed)
        design = lj.Design.from_formula("~ time + (time | id)", frame)
        return statistics_sampler(lj.prepare_design(design))

    def shape(tree):
        leaves, treedef = jax.tree.flatten(tree)
        return treedef, [(np.shape(leaf), np.result_type(leaf)) for leaf in leaves]

    one = sampler([5] * 9 + [4] * 6 + [3] * 2, seed=1)
    other = sampler([6] * 20 + [5] * 4 + [4] * 8 + [3] * 8, seed=2)
    assert np.count_nonzero(one.wishart_df) == 3
    assert np.count_nonzero(other.wishart_df) == 4
    assert shape(one) == shape(other)
