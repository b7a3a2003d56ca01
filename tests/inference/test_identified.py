"""Variances that a design leaves without a trace: found, named, and without invented errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import lmmjax as lj
from lmmjax.errors import DesignWarning, LmmError
from lmmjax.inference.identified import check_determined, undetermined


@pytest.fixture(scope="module")
def data(fits):
    s = fits.data("sleepstudy").copy()
    s["night"] = "n" + s["Subject"].astype(str)
    s["zero"] = 0.0
    s["twice"] = 2.0 * s["Days"] + 1.0
    s["arm"] = np.where(s["Subject"].astype(int) % 2, "a", "b")
    s["year"] = 2000.0 + 1e-6 * s["Days"]
    s["day"] = "d" + s["Days"].astype(int).astype(str)
    return s


def _found(formula, data):
    design = lj.build_design(formula, data)
    return [each.parameters for each in undetermined(design, lj.prepare_design(design))]


INTERCEPT = "(Intercept)"


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("Reaction ~ Days + (Days | Subject)", []),
        ("Reaction ~ year + (year | Subject)", []),
        ("Reaction ~ Days + (Days || Subject)", []),
        ("Reaction ~ 1 + (1 | Subject) + (1 | day)", []),
        ("Reaction ~ arm + (1 | arm:day) + (Days | Subject)", []),
        (
            "Reaction ~ Days + (1 | Subject) + (1 | night)",
            [(("Subject", INTERCEPT), ("night", INTERCEPT))],
        ),
        ("Reaction ~ Days + (1 + zero | Subject)", [(("Subject", "zero"),)]),
        ("Reaction ~ Subject + (1 | Subject)", [(("Subject", INTERCEPT),)]),
        ("Reaction ~ arm + (1 | arm)", [(("arm", INTERCEPT),)]),
        (
            "Reaction ~ Days + (1 + Days + twice | Subject)",
            [(("Subject", INTERCEPT), ("Subject", "Days"), ("Subject", "twice"))],
        ),
        (
            "Reaction ~ Days + (1 | Subject) + (1 | night) + (0 + zero | arm)",
            [(("Subject", INTERCEPT), ("night", INTERCEPT)), (("arm", "zero"),)],
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::lmmjax.errors.LmmWarning")
def test_flat_directions_of_a_design_are_named(data, formula, expected):
    assert _found(formula, data) == expected


@pytest.mark.parametrize(("seed", "groups"), [(1, 3), (2, 6), (3, 2)])
def test_a_direction_is_free_exactly_where_the_projected_covariance_vanishes(seed, groups):
    """Against dense algebra: the rank of the matrices ``P V_i P`` themselves."""
    rng = np.random.default_rng(seed)
    n = 24
    frame = pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n),
            "g": rng.integers(groups, size=n).astype(str),
            "h": rng.integers(4, size=n).astype(str),
            "w": rng.uniform(0.5, 2.0, size=n),
        }
    )
    for fixed in ("x", "g", "g * x", "h"):
        design = lj.build_design(f"y ~ {fixed} + (x | g) + (1 | h)", frame, weights="w")
        root = np.sqrt(design.weights)[:, None]
        q, _ = np.linalg.qr(root * design.X)
        P = np.eye(n) - q @ q.T
        matrices = [np.eye(n)]
        for term in design.terms:
            levels, k = len(term.levels), term.Z.shape[1]
            member = np.eye(levels)[term.index]
            Z = root * np.einsum("nl,nk->nlk", member, term.Z).reshape(n, -1)
            for a in range(k):
                for b in range(a, k):
                    S = np.zeros((k, k))
                    S[a, b] = S[b, a] = 1.0
                    matrices.append(Z @ np.kron(np.eye(levels), S) @ Z.T)
        seen = np.array([(P @ M @ P).ravel() / np.linalg.norm(M) for M in matrices])
        spectrum = np.linalg.svd(seen, compute_uv=False)
        free = bool(np.any(spectrum < 1e-8 * spectrum[0]))
        assert bool(undetermined(design, lj.prepare_design(design))) == free


def test_a_factor_given_twice_has_no_errors_of_its_halves(data, fits):
    once = fits("sleepstudy", "Reaction ~ Days + (1 | Subject)")
    with pytest.warns(DesignWarning, match="'Subject' and of .* among the levels of 'night'") as w:
        twice = lj.lmm("Reaction ~ Days + (1 | Subject) + (1 | night)", data)
    assert len(w) == 1
    # All but the halves is as with the factor given once.
    assert twice.criterion == pytest.approx(once.criterion, abs=1e-8)
    np.testing.assert_allclose(twice.bse, once.bse, rtol=1e-6)
    np.testing.assert_allclose(twice.df, once.df, rtol=1e-6)
    table = twice.variance_components()
    assert table["se"].isna().tolist() == [True, True, False]
    assert table["se"].iloc[2] == pytest.approx(once.variance_components()["se"].iloc[1], rel=1e-6)
    total = twice.delta(lambda p: p.variance("Subject") + p.variance("night"))
    alone = once.delta(lambda p: p.variance("Subject"))
    assert total.estimate == pytest.approx(alone.estimate, rel=1e-6)
    assert total.se == pytest.approx(alone.se, rel=1e-5)


def test_a_group_that_is_fixed_too_has_no_p_value(data):
    with pytest.warns(DesignWarning, match="'Subject' \\(the fixed effects explain all") as caught:
        fit = lj.lmm("Reaction ~ Days + Subject + (1 | Subject)", data)
    assert len(caught) == 1
    # Days varies within subjects: its test is that of least squares.
    dummies = pd.get_dummies(data["Subject"], dtype=float)
    fixed = np.column_stack([data["Days"], dummies])
    inverse = np.linalg.inv(fixed.T @ fixed)
    assert fit.bse["Days"] == pytest.approx(fit.sigma * np.sqrt(inverse[0, 0]), rel=1e-8)
    assert fit.df["Days"] == pytest.approx(161.0)
    assert np.isnan(fit.pvalues.drop("Days")).all()


def test_planning_refuses_one_cluster_in_each_arm():
    frame = pd.DataFrame({"arm": np.repeat(["a", "b"], 10), "g": np.repeat(["1", "2"], 10)})
    design = lj.Design.from_formula("y ~ arm + (1 | g)", frame)
    with pytest.raises(LmmError, match="the fixed effects explain all that differs"):
        check_determined(design, lj.prepare_design(design))
