"""The worked example: simulation, recovery, and the intervals of variance components."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lmmjax as lj
from lmmjax import demo


@pytest.fixture(scope="module")
def result():
    return demo.fit(demo.simulate())


def test_simulation_is_a_function_of_its_seed():
    once, again, other = demo.simulate(3), demo.simulate(3), demo.simulate(4)
    assert once.equals(again)
    assert not np.allclose(once["score"], other["score"])
    assert once.shape == (250, 3)
    assert once.groupby("id", observed=True)["time"].agg(list).map(tuple).unique().tolist() == [
        (0, 1, 2, 3, 4)
    ]


def test_simulation_has_the_moments_that_it_promises():
    truth = demo.Truth(subjects=40_000)
    wide = demo.simulate(0, truth)["score"].to_numpy().reshape(truth.subjects, truth.times)
    time = np.arange(5.0)
    Z = np.stack([np.ones(5), time], axis=1)
    expected = Z @ [[100.0, 5.0], [5.0, 4.0]] @ Z.T + 25.0 * np.eye(5)
    assert np.allclose(wide.mean(axis=0), 50.0 + 3.0 * time, atol=0.3)
    assert np.allclose(np.cov(wide.T), expected, rtol=0.04)


def test_recovery_table(result):
    table = demo.recovery(result)
    assert table["true"].tolist() == [50.0, 3.0, 10.0, 2.0, 0.25, 5.0]
    assert table["covered"].all()
    assert np.all((table["lower"] < table["estimate"]) & (table["estimate"] < table["upper"]))
    fixed = table.loc[["(Intercept)", "time"], ["lower", "upper"]].to_numpy()
    assert np.array_equal(fixed, result.conf_int().to_numpy())


def test_intervals_cover_as_often_as_they_say():
    # 60 studies with the same shapes; 6 intervals each. 95 % within three standard errors.
    tables = [demo.recovery(demo.fit(demo.simulate(seed))) for seed in range(60)]
    hits = np.array([table["covered"] for table in tables])
    # An interval that does not exist (a singular fit) covers nothing.
    assert 0.90 < hits.mean() < 0.99
    estimates = np.array([table["estimate"] for table in tables])
    error = estimates.std(axis=0, ddof=1) / np.sqrt(60)
    assert np.all(np.abs(estimates.mean(axis=0) - tables[0]["true"].to_numpy()) < 4 * error)


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_component_intervals_from_the_hessian_in_user_parameters(fits, method):
    """The same by another way: autodiff of the criterion with (theta, sigma) in lme4's form."""
    fit = fits("sleepstudy", "Reaction ~ Days + (1 + Days | Subject)", method)
    data = fit.raw.data

    def deviance(p):
        theta, sigma = p[:3], p[3]
        if method == "REML":
            return -2.0 * lj.restricted_loglik(theta, sigma, data)
        beta = lj.fixed_effects(theta, data)
        return -2.0 * lj.marginal_loglik(lj.Parameters(beta, theta, sigma), data)

    def components(p):
        lower = jnp.array([[p[0], 0.0], [p[1], p[2]]])
        cov = p[3] ** 2 * lower @ lower.T
        sd = jnp.sqrt(jnp.diagonal(cov))
        return jnp.concatenate(
            [jnp.log(sd), jnp.arctanh(cov[:1, 1] / (sd[0] * sd[1])), jnp.log(p[3:])]
        )

    with lj.double_precision():
        p = jnp.append(jnp.asarray(fit.theta), fit.sigma)
        cov = 2.0 * jnp.linalg.inv(jax.jit(jax.hessian(deviance))(p))
        J = jax.jit(jax.jacfwd(components))(p)
        half = 1.959963984540054 * np.sqrt(np.diagonal(J @ cov @ J.T))
        center = np.asarray(components(p))
    expected = np.stack([center - half, center + half], axis=1)
    expected = np.where(np.arange(4)[:, None] == 2, np.tanh(expected), np.exp(expected))
    found = fit.variance_components()
    assert np.allclose(found[["lower", "upper"]], expected, rtol=1e-6)
    assert np.allclose(found["estimate"], fit.varcorr.to_frame()["sdcor"])


def test_component_intervals_of_independent_effects_and_several_terms(fits):
    independent = fits("sleepstudy", "Reaction ~ Days + (1 + Days || Subject)")
    table = independent.variance_components()
    assert table["grp"].tolist() == ["Subject", "Subject.1", "Residual"]
    crossed = fits("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)").variance_components(
        level=0.9
    )
    assert crossed["grp"].tolist() == ["plate", "sample", "Residual"]
    # On the log scale they are symmetric.
    for frame in (table, crossed):
        assert np.allclose(frame["lower"] * frame["upper"], frame["estimate"] ** 2)


def test_a_variance_on_its_boundary_has_no_interval(fits):
    table = fits("Dyestuff2", "Yield ~ 1 + (1 | Batch)").variance_components()
    assert table["lower"].isna().tolist() == [True, False]
    with pytest.raises(lj.LmmError, match="level"):
        fits("Dyestuff2", "Yield ~ 1 + (1 | Batch)").variance_components(level=95)


def test_the_story(result):
    text = demo.run()
    assert str(result.summary()) in text
    assert "Recovery of the parameters" in text
    assert "Pictures" not in text
    assert text.count(" yes") == 6
    assert "seed 5" in demo.run(seed=5)
