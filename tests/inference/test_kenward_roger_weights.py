"""Kenward-Roger with prior weights: the paper's formulas, dense; and how pbkrtest differs."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

import lmmjax as lj
from lmmjax.inference.kenward_roger import denominator

R = json.loads((Path(__file__).parent / "weights.json").read_text())
CONTRASTS = [*np.eye(3)[:, None, :], np.eye(3)[1:]]


@pytest.fixture(scope="module")
def fit(fits):
    frame = fits.data("sleepstudy").copy()
    frame["w"] = 0.3 + (7 * np.arange(1, len(frame) + 1)) % 11 / 4
    return lj.lmm("Reaction ~ Days + I(Days**2) + (Days | Subject)", frame, weights="w")


def paper(fit, residual, phi=None):
    """Kenward & Roger (1997), equations 1 to 5 and section 4, with n x n matrices.

    `residual` is the matrix that sigma^2 multiplies. Given back are the adjusted covariance, and a
    function from a contrast to its df and scale.
    """
    design = fit.design
    (term,), (factor,) = design.terms, fit.raw.factors
    same = term.index[:, None] == term.index[None, :]
    units = [np.array(e) for e in ([[1, 0], [0, 0]], [[0, 1], [1, 0]], [[0, 0], [0, 1]])]
    parts = [same * (term.Z @ e @ term.Z.T) for e in units] + [residual]
    G = fit.sigma**2 * factor @ factor.T
    values = [G[0, 0], G[0, 1], G[1, 1], fit.sigma**2]
    sigma = sum(value * part for value, part in zip(values, parts, strict=True))
    inverse, X = np.linalg.inv(sigma), design.X
    phi = np.linalg.inv(X.T @ inverse @ X) if phi is None else phi
    first = [-inverse @ part @ inverse for part in parts]
    P = [X.T @ a @ X for a in first]
    Q = [[X.T @ a @ sigma @ b @ X for b in first] for a in first]
    r = range(len(parts))
    information = [
        [
            np.trace(first[i] @ sigma @ first[j] @ sigma)
            - np.trace(2 * phi @ Q[i][j] - phi @ P[i] @ phi @ P[j])
            for j in r
        ]
        for i in r
    ]
    W = 2 * np.linalg.inv(np.array(information))
    inner = sum(W[i, j] * (Q[i][j] - P[i] @ phi @ P[j]) for i in r for j in r)

    def test(L):
        q = len(L)
        theta = L.T @ np.linalg.inv(L @ phi @ L.T) @ L
        moved = [theta @ phi @ p @ phi for p in P]
        A1 = sum(W[i, j] * np.trace(moved[i]) * np.trace(moved[j]) for i in r for j in r)
        A2 = sum(W[i, j] * np.trace(moved[i] @ moved[j]) for i in r for j in r)
        B = (A1 + 6 * A2) / (2 * q)
        g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
        c1, c2, c3 = np.array([g, q - g, q + 2 - g]) / (3 * q + 2 * (1 - g))
        mean = 1 / (1 - A2 / q)
        variance = 2 / q * (1 + c1 * B) / ((1 - c2 * B) ** 2 * (1 - c3 * B))
        rho = variance / (2 * mean**2)
        df = 4 + (q + 2) / (q * rho - 1)
        return df, df / (mean * (df - 2))

    return phi + 2 * phi @ inner @ phi, test


def test_it_is_the_papers(fit):
    adjusted, test = paper(fit, np.diag(1 / fit.design.weights))
    assert_allclose(fit.kenward_roger.adjusted, adjusted, rtol=1e-8)
    for L in CONTRASTS:
        assert_allclose(denominator(L, fit.kenward_roger), test(L), rtol=1e-8)


def test_it_is_pbkrtests_where_that_is_given_the_weights(fit):
    theirs = R["weighted"]
    assert_allclose(fit.theta, R["theta"], rtol=1e-5)
    assert_allclose(fit.kenward_roger.adjusted, theirs["vcov"], rtol=1e-5)
    df = [denominator(L, fit.kenward_roger).df for L in CONTRASTS]
    assert_allclose(df, [*theirs["df"], theirs["joint"]], rtol=1e-5)


def test_what_pbkrtest_leaves_out_is_the_residuals_weights(fit):
    """Its own numbers follow from sigma^2 I for the residuals beside the weighted fit's vcov."""
    adjusted, test = paper(fit, np.eye(180), phi=fit.vcov.to_numpy())
    theirs = R["as_is"]
    assert_allclose(adjusted, theirs["vcov"], rtol=1e-5)
    df = [test(L)[0] for L in CONTRASTS]
    assert_allclose(df, [*theirs["df"], theirs["joint"]], rtol=1e-5)
    # not a matter of digits
    ours = denominator(CONTRASTS[2], fit.kenward_roger).df
    assert abs(ours / theirs["df"][2] - 1) > 0.1
