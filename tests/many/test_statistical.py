"""10,000 simulated studies of the worked example: what was put in comes out again."""

from __future__ import annotations

import numpy as np
import pytest

import lmmjax as lj
from lmmjax.many.fits import ManyFits
from lmmjax.many.runner import fit_chunks
from lmmjax.many.sources import any_lane, simulated_source

COUNT = 10_000
BETA = np.array([50.0, 3.0])
COVARIANCE = np.array([[100.0, 5.0], [5.0, 4.0]])
VARIANCE = 25.0


@pytest.fixture(scope="module", params=["statistics", "rows"])
def many(request):
    frame = lj.simulate_design({"id": 50}, within={"time": range(5)})
    design = lj.Design.from_formula("y ~ time + (1 + time | id)", frame)
    truth = lj.TrueParameters.for_design(
        design, BETA.tolist(), covariance={"id": COVARIANCE}, sigma=np.sqrt(VARIANCE)
    )
    prepared = lj.prepare_design(design)
    source = simulated_source(design, prepared, truth, 2026, request.param)
    chunks = fit_chunks(prepared, any_lane(prepared), source, COUNT)
    return ManyFits.collect(design, prepared, True, [chunk.estimate for chunk in chunks])


def within(values, truth, errors=4.0):
    """Whether a mean is the truth, up to so many of its Monte Carlo standard errors."""
    values = np.asarray(values, np.float64)
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return np.all(np.abs(values.mean(axis=0) - truth) < errors * error)


def test_all_converge(many):
    assert many.converged.all()
    assert len(many) == COUNT


def test_fixed_effects_and_their_errors(many):
    assert within(many.beta, BETA)
    # The variance of an estimate is the mean of its squared standard error (balanced: exactly).
    assert within((many.beta - BETA) ** 2 - many.se**2, 0.0)


def test_intervals_cover(many):
    low, high = np.moveaxis(many.conf_int(0.95), -1, 0)
    covered = np.mean((low < BETA) & (high > BETA), axis=0)
    assert np.all(np.abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / COUNT))


def test_variances(many):
    # REML is unbiased on a balanced design but for the few singular fits.
    assert np.mean(many.singular) < 0.01
    assert within(many.sigma**2, VARIANCE)
    assert within(many.covariances[0].reshape(COUNT, 4), COVARIANCE.reshape(-1), 5.0)
