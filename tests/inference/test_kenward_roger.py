"""Kenward-Roger from its definition, with n x n matrices, on designs of every engine."""

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import lmmjax as lj
from lmmjax.inference.kenward_roger import KenwardRoger, denominator


def directions(structure):
    """Matrices that span the covariance matrices of a structure."""
    k = structure.size
    if isinstance(structure, lj.covariance.Identity):
        return [np.eye(k)]
    if isinstance(structure, lj.covariance.CompoundSymmetry):
        return [np.eye(k), np.ones((k, k)) - np.eye(k)]
    pairs = [(i, i) for i in range(k)]
    if isinstance(structure, lj.covariance.Unstructured):
        pairs += [(i, j) for i in range(k) for j in range(i)]
    out = []
    for i, j in pairs:
        E = np.zeros((k, k))
        E[i, j] = E[j, i] = 1.0
        out.append(E)
    return out


def by_definition(fit):
    """Phi, adjusted covariance, and ``tr(Phi P_i Phi P_j) W_ij`` summed (basis-free)."""
    design, sigma = fit.design, fit.sigma
    parts, V = [np.diag(1.0 / design.weights)], np.diag(sigma**2 / design.weights)
    structures = fit.raw.prepared.structures
    for term, bars, factor in zip(design.terms, structures, fit.raw.factors, strict=True):
        same = term.index[:, None] == term.index[None, :]
        V = V + sigma**2 * same * (term.Z @ factor @ factor.T @ term.Z.T)
        at = 0
        for structure in bars:
            Z = term.Z[:, at : at + structure.size]
            at += structure.size
            parts += [same * (Z @ E @ Z.T) for E in directions(structure)]
    X, inverse = design.X, np.linalg.inv(V)
    phi = np.linalg.inv(X.T @ inverse @ X)
    left = [X.T @ inverse @ part @ inverse for part in parts]
    P = [-a @ X for a in left]
    r = len(parts)
    Q = [[left[i] @ parts[j] @ inverse @ X for j in range(r)] for i in range(r)]
    information = np.array(
        [
            [
                np.sum((inverse @ parts[i]) * (inverse @ parts[j]).T)
                - 2 * np.trace(phi @ Q[i][j])
                + np.trace(phi @ P[i] @ phi @ P[j])
                for j in range(r)
            ]
            for i in range(r)
        ]
    )
    W = 2 * np.linalg.inv(information)
    inner = sum(W[i, j] * (Q[i][j] - P[i] @ phi @ P[j]) for i in range(r) for j in range(r))
    moved = [phi @ p @ phi for p in P]
    # cov(vec Phi) to first order: all that degrees of freedom are made of
    spread = np.einsum("iab,ij,jcd->abcd", moved, W, moved)
    return phi, phi + 2 * phi @ inner @ phi, spread


def check(fit, rtol=1e-6):
    phi, adjusted, spread = by_definition(fit)
    kr = fit.kenward_roger
    size = np.sqrt(np.diagonal(phi))
    table = np.outer(size, size)
    assert_allclose(kr.vcov / table, phi / table, atol=rtol)
    assert_allclose(kr.adjusted / table, adjusted / table, atol=rtol)
    ours = np.einsum("iab,ij,jcd->abcd", kr.first, kr.weight, kr.first)
    four = np.einsum("ab,cd->abcd", table, table)
    assert_allclose(ours / four, spread / four, atol=rtol * np.abs(spread / four).max())


def sample(seed=0, groups=12, others=9, n=90):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "g": rng.integers(0, groups, n).astype(str),
            "h": rng.integers(0, others, n).astype(str),
            "f": rng.choice(list("abc"), n),
            "x": rng.normal(size=n),
            "w": rng.uniform(0.5, 2.0, n),
        }
    )
    by = rng.normal(size=(groups, 2))[frame["g"].astype(int)]
    slope = by[:, 0] + 0.5 * by[:, 1] * frame["x"]
    frame["y"] = slope + rng.normal(size=others)[frame["h"].astype(int)] + rng.normal(size=n)
    frame["flat"] = frame["x"] + by[:, 0] + rng.normal(size=n)
    return frame


SLOPE = "y ~ x + f + (1 + x | g)"
CASES = {
    "slope": (SLOPE, {"weights": "w"}),
    "diagonal": ("y ~ x + f + (1 + x || g) + (1 | h)", {}),
    "identity": (SLOPE, {"covariance": {"g": lj.covariance.Identity}}),
    "compound symmetry": (SLOPE, {"covariance": {"g": lj.covariance.CompoundSymmetry}}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_definition(name):
    formula, kwargs = CASES[name]
    fit = lj.lmm(formula, sample(1), **kwargs)
    assert not fit.is_singular
    check(fit)


@pytest.mark.parametrize(
    "formula",
    [
        "flat ~ x + (1 + x | g)",
        pytest.param("flat ~ x + (1 + x || g)", marks=pytest.mark.slow),
    ],
)
def test_boundary(formula):
    """Where a variance is zero the components have no square roots to differentiate."""
    for seed in range(20):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lj.LmmWarning)
            fit = lj.lmm(formula, sample(seed))
        if fit.is_singular:
            break
    assert fit.is_singular
    check(fit)


@pytest.mark.slow
def test_crossed_engine():
    fit = lj.lmm("y ~ x + (1 | g) + (1 | h)", sample(3, groups=90, others=80, n=400))
    check(fit)


def test_balanced_one_way_is_exact():
    """With one group mean each, the t test has as many degrees of freedom as groups less one."""
    frame = pd.DataFrame({"g": np.repeat(list("abcdef"), 4)})
    rng = np.random.default_rng(5)
    frame["y"] = np.repeat(rng.normal(size=6), 4) * 2 + rng.normal(size=24)
    fit = lj.lmm("y ~ 1 + (1 | g)", frame)
    found = denominator(np.ones((1, 1)), fit.kenward_roger)
    assert_allclose([found.df, found.scale], [5.0, 1.0], rtol=1e-6)
    assert_allclose(fit.kenward_roger.adjusted, fit.vcov, rtol=1e-6)


@pytest.mark.slow
def test_singular_compound_symmetry_is_refused():
    frame = sample(0)
    frame["flat"] = frame["x"] + np.random.default_rng(2).normal(size=len(frame))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lj.LmmWarning)
        kwargs = {"covariance": {"g": lj.covariance.CompoundSymmetry}}
        fit = lj.lmm("flat ~ x + (1 + x | g)", frame, **kwargs)
    assert fit.is_singular
    with pytest.raises(lj.LmmError, match="boundary of CompoundSymmetry"):
        fit.summary(ddf="kenward-roger")


def test_a_single_contrast_has_two_over_a_degrees_of_freedom():
    """With q = 1 the formulas reduce to df = 2 / A, scale 1, where terms of theirs vanish too."""
    for a in (0.5, 0.2, 1.0 / 3.0, 1.5):
        kr = KenwardRoger(
            phi=np.ones((1, 1)),
            phi_adjusted=np.ones((1, 1)),
            sandwich=np.ones((1, 1, 1)),
            weight=np.full((1, 1), a),
            back=np.ones((1, 1)),
        )
        df, scale = denominator(np.ones((1, 1)), kr)
        assert df == pytest.approx(2.0 / a, rel=1e-9)
        assert scale == pytest.approx(1.0, rel=1e-9)
