"""Analytic power: against closed forms, dense algebra, central differences and simulation."""

from __future__ import annotations

import jax
import jax.flatten_util
import mpmath
import numpy as np
import pytest
from scipy import stats

import lmmjax as lj
from lmmjax.studies.noncentral import f_critical, f_power, t_critical, t_power

# --- the distributions ----------------------------------------------------------------------------


def exact_f_power(f, q, df, size):
    """``P(F > f)`` and ``P(F <= f)`` as Poisson mixtures of beta probabilities, in 30 digits."""
    with mpmath.workdps(30):
        half, mean = mpmath.mpf(df) / 2, mpmath.mpf(size) / 2
        x = df / (df + q * mpmath.mpf(f))
        first = max(0, int(mean - 12 * mpmath.sqrt(mean) - 60))
        b = mpmath.mpf(q) / 2 + first
        # I_x(half, b + 1) = I_x(half, b) + x^half (1 - x)^b / (b B(half, b))
        tail = mpmath.betainc(half, b, 0, x, regularized=True)
        more = x**half * (1 - x) ** b / (b * mpmath.beta(half, b))
        share = mpmath.exp(first * mpmath.log(mean) - mean - mpmath.loggamma(first + 1))
        total = mpmath.mpf(0)
        for i in range(first, int(mean + 12 * mpmath.sqrt(mean)) + 60):
            total += share * tail
            tail, more = tail + more, more * (1 - x) * (half + b) / (b + 1)
            b, share = b + 1, share * mean / (i + 1)
        return float(total), float(1 - total)


@pytest.mark.parametrize("alpha", [0.05, 1e-4])
def test_critical_values_are_scipys(alpha):
    with lj.double_precision():
        for df in (0.5, 1.0, 2.7, 18.3, 4000.0):
            assert t_critical(alpha, df) == pytest.approx(stats.t.isf(alpha / 2, df), rel=1e-9)
            assert f_critical(alpha, 3, df) == pytest.approx(stats.f.isf(alpha, 3, df), rel=1e-8)


@pytest.mark.parametrize("alpha", [0.05, 1e-4])
@pytest.mark.parametrize("q", [1, 3])
def test_power_of_t_and_f(alpha, q):
    # The noncentralities lie on both sides of those from which another formula is used.
    with lj.double_precision():
        for df in (0.5, 1.0, 6.4, 29.0, 31.0, 4000.0):
            f = mpmath.mpf(float(stats.f.isf(alpha, q, df)))
            for size in (0.01, 9.0, 99.0, 101.0, 599.0, 601.0, 2e4):
                exact = exact_f_power(f, q, df, size)
                found = t_power(alpha, df, -np.sqrt(size)) if q == 1 else None
                found = f_power(alpha, q, df, size) if found is None else found
                tolerance = 1e-4 if df < 1 else 2e-7
                for ours, theirs in zip(found, exact, strict=True):
                    assert float(ours) == pytest.approx(theirs, rel=tolerance, abs=1e-12)


def test_power_of_t_is_scipys():
    with lj.double_precision():
        for df, delta in ((4.0, 0.7), (12.5, 3.0), (200.0, -2.0)):
            edge = stats.t.isf(0.025, df)
            exact = stats.nct.sf(edge, df, delta) + stats.nct.cdf(-edge, df, delta)
            assert t_power(0.05, df, delta)[0] == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("q", [1, 3])
def test_slopes_of_t_and_f(q):
    def power(df, size):
        return t_power(0.05, df, size)[0] if q == 1 else f_power(0.05, q, df, size)[0]

    slopes = jax.jit(jax.grad(power, argnums=(0, 1)))
    with lj.double_precision():
        for df, size in ((18.3, 2.5), (3.0, 11.0), (200.0, 0.3)):
            by_df = power(df + 1e-3, size) - power(df - 1e-3, size)
            by_size = power(df, size + 1e-3) - power(df, size - 1e-3)
            found = np.array(slopes(df, size))
            assert found == pytest.approx(np.array([by_df, by_size]) / 2e-3, rel=1e-4, abs=1e-9)
        at_null = np.array(slopes(18.3, 0.0))
        assert np.isfinite(at_null).all()
        assert at_null[0] == pytest.approx(0.0, abs=1e-12)  # the level, whatever the df


# --- expected information -------------------------------------------------------------------------


def slopes_with_dropout():
    frame = lj.simulate_design(
        {"id": 9}, within={"time": range(4)}, between={"arm": 2}, dropout=0.2, seed=3
    )
    design = lj.Design.from_formula("y ~ arm * time + (1 + time | id)", frame)
    sd, correlation = [2.0, 0.7], {"id": -0.3}
    return design, lj.TrueParameters.for_design(
        design, {"time": 0.9, "armarm2:time": 0.5}, sd=sd, correlation=correlation, sigma=1.5
    )


def classes_in_schools():
    frame = lj.simulate_design(
        {"school": 5}, ("uniform", 2, 4), nested={"class": 3}, between={"class": {"arm": 2}}, seed=1
    )
    frame["x"] = np.random.default_rng(2).normal(size=len(frame))
    design = lj.Design.from_formula("y ~ x + arm + (1 + x | school) + (1 | class)", frame)
    sd = {"school": [1.2, 0.4], "class": 0.8}
    return design, lj.TrueParameters.for_design(
        design, {"x": 0.5, "armarm2": 1}, sd=sd, correlation={"school": 0.5}, sigma=1
    )


def subjects_by_items():
    frame = lj.simulate_design({"id": 7}, crossed={"item": 4}, between={"item": {"kind": 2}})
    design = lj.Design.from_formula("y ~ kind + (1 + kind || id) + (1 | item)", frame)
    sd = {"id": [1.0, 0.6], "item": 0.7}
    return design, lj.TrueParameters.for_design(design, {"kindkind2": 1}, sd=sd, sigma=1.3)


def years_with_weights():
    rng = np.random.default_rng(5)
    frame = lj.simulate_design({"id": 6}, within={"year": range(2001, 2006)})
    frame["w"] = rng.uniform(0.3, 3.0, len(frame))
    frame["year"] = frame["year"].astype(float)
    design = lj.Design.from_formula("y ~ year + (1 | id)", frame, weights="w")
    return design, lj.TrueParameters.for_design(design, {"year": 0.4}, sd=1.1, sigma=2)


def a_variance_of_zero():
    design, truth = slopes_with_dropout()
    return design, truth.with_correlation({"id": 0.0}).with_sd({"id": {"time": 0.0}})


CASES = [
    slopes_with_dropout,
    classes_in_schools,
    subjects_by_items,
    years_with_weights,
    a_variance_of_zero,
]


def dense(design, truth, reml):
    """Covariance of beta and Satterthwaite's df of rows of L, through n x n matrices."""
    V = np.diag(truth.sigma**2 / design.weights)
    parts = [np.diag(1.0 / design.weights)]
    for term, covariance in zip(design.terms, truth.covariance.values(), strict=True):
        same = (term.index[:, None] == term.index).astype(float)
        V = V + same * (term.Z @ covariance @ term.Z.T)
        k = term.Z.shape[1]
        block = np.repeat(np.arange(len(term.blocks)), term.blocks)
        for i in range(k):
            for j in range(i + 1):
                if block[i] == block[j]:
                    unit = np.zeros((k, k))
                    unit[i, j] = unit[j, i] = 1.0
                    parts.append(same * (term.Z @ unit @ term.Z.T))
    inverse = np.linalg.inv(V)
    X = design.X
    vcov = np.linalg.inv(X.T @ inverse @ X)
    P = inverse - inverse @ X @ vcov @ X.T @ inverse if reml else inverse
    information = np.array([[0.5 * np.trace(P @ a @ P @ b) for b in parts] for a in parts])

    def df(row):
        moved = inverse @ X @ vcov @ row
        slope = np.array([moved @ part @ moved for part in parts])
        return 2 * (row @ vcov @ row) ** 2 / (slope @ np.linalg.solve(information, slope))

    return vcov, df


@pytest.mark.parametrize(
    ("case", "reml"), [*((case, True) for case in CASES), (slopes_with_dropout, False)]
)
def test_precision_and_df_are_those_of_dense_algebra(case, reml):
    design, truth = case()
    vcov, df = dense(design, truth, reml)
    method = "REML" if reml else "ML"
    names = design.x_names[1:]
    for j, name in enumerate(names, start=1):
        found = lj.analytic_power(design, truth, name, method=method)
        row = np.eye(len(truth.beta))[j]
        assert found.se[0] == pytest.approx(np.sqrt(vcov[j, j]), rel=1e-8)
        assert found.df == pytest.approx(df(row), rel=1e-6)
        edge, delta = stats.t.isf(0.025, found.df), truth.beta[j] / found.se[0]
        power = stats.nct.sf(edge, found.df, delta) + stats.nct.cdf(-edge, found.df, delta)
        assert found.power == pytest.approx(power, rel=1e-6)
        assert found.power + found.miss == pytest.approx(1.0, rel=1e-12)
    if len(names) > 1:
        found = lj.analytic_power(design, truth, list(names), method=method)
        L = np.eye(len(truth.beta))[1:]
        # The coefficients are in different units: directions are sought at unit standard error.
        V, unit = L @ vcov @ L.T, L / np.sqrt(np.diagonal(vcov)[1:, None])
        nu = np.array([df(row) for row in np.linalg.eigh(unit @ vcov @ unit.T)[1].T @ unit])
        E = np.sum(nu / (nu - 2))
        assert found.df == pytest.approx(2 * E / (E - len(L)), rel=1e-6)
        beta = L @ truth.beta
        assert found.noncentrality == pytest.approx(beta @ np.linalg.solve(V, beta), rel=1e-8)
        power = stats.ncf.sf(
            stats.f.isf(0.05, len(L), found.df), len(L), found.df, found.noncentrality
        )
        assert found.power == pytest.approx(power, rel=1e-6)


# --- closed forms ---------------------------------------------------------------------------------

TAU, SIGMA, ROWS = 2.0, 3.0, 5


def two_arms(groups):
    frame = lj.simulate_design({"id": groups}, within={"time": range(ROWS)}, between={"arm": 2})
    design = lj.Design.from_formula("y ~ arm + time + (1 | id)", frame)
    effects = {"armarm2": 1.5, "time": 0.4}
    return design, lj.TrueParameters.for_design(design, effects, sd=TAU, sigma=SIGMA)


@pytest.mark.parametrize("groups", [20.0, 33.5])
def test_a_balanced_design_has_its_classical_test(groups):
    # Between groups as if their means were the data; within groups with the residual's df.
    design, truth = two_arms(20)
    between = lj.analytic_power(design, truth, "armarm2", groups=groups)
    assert between.df == pytest.approx(groups - 2, rel=1e-9)
    assert between.se[0] == pytest.approx(
        2 * np.sqrt((TAU**2 + SIGMA**2 / ROWS) / groups), rel=1e-10
    )
    within = lj.analytic_power(design, truth, "time", groups=groups)
    assert within.df == pytest.approx(groups * (ROWS - 1) - 1, rel=1e-9)
    squares = groups * np.sum((np.arange(ROWS) - 2.0) ** 2)
    assert within.se[0] == pytest.approx(SIGMA / np.sqrt(squares), rel=1e-10)


def test_sizes_scale_the_design():
    design, truth = two_arms(20)
    for change, real in (
        ({"groups": 32}, lj.extend(design, along="id", n=32)),
        ({"per_group": 15}, lj.extend(design, within="id", n=15)),
    ):
        scaled = lj.analytic_power(design, truth, "armarm2", **change)
        exact = lj.analytic_power(real, truth, "armarm2")
        assert scaled.power == pytest.approx(exact.power, rel=1e-10)
        assert scaled.df == pytest.approx(exact.df, rel=1e-9)
        assert (scaled.groups, scaled.per_group) == (exact.groups, exact.per_group)


@pytest.mark.parametrize("test", ["time", ["time", "armarm2:time"]])
def test_gradient_is_that_of_differences(test):
    design, truth = slopes_with_dropout()
    found = lj.analytic_power(design, truth, test)
    problem, inputs = found._problem, found._inputs
    with lj.double_precision():
        values, back = jax.flatten_util.ravel_pytree(inputs)
        values = np.array(values)
        slopes = np.zeros(len(values))
        for i, value in enumerate(values):
            step = 1e-4 * max(1.0, abs(value)) * np.eye(len(values))[i]
            above, below = (
                problem.evaluate(jax.tree.map(np.asarray, back(values + s))) for s in (step, -step)
            )
            slopes[i] = (above.power - below.power) / (2 * step[i])
    frame = found.gradient
    assert frame["value"].to_numpy() == pytest.approx(values, rel=1e-12)
    assert frame["slope"].to_numpy() == pytest.approx(slopes, rel=2e-5, abs=1e-8)
    assert frame["part"].tolist() == ["fixed"] * 4 + [
        "sd",
        "sd",
        "correlation",
        "sigma",
        "groups",
        "per_group",
    ]
    assert frame["name"][6] == "id: (Intercept), time"


def test_the_pure_function_under_vmap_and_grad():
    design, truth = two_arms(20)
    patterns = lj.DesignPatterns.of(design)
    inputs = lj.PowerInputs.of(patterns, truth)
    L = np.array([[0.0, 1.0, 0.0]])

    def power(groups):
        return lj.expected_power(inputs._replace(groups=groups), patterns, L).power

    with lj.double_precision():
        sizes = np.array([10.0, 20.0, 400.0])
        many = jax.jit(jax.vmap(jax.value_and_grad(power)))(sizes)
    alone = [lj.analytic_power(design, truth, "armarm2", groups=g) for g in sizes]
    assert many[0] == pytest.approx([x.power for x in alone], rel=1e-12)
    slope = alone[1].gradient.set_index("part")["slope"]["groups"]
    assert many[1][1] == pytest.approx(slope, rel=1e-9)


# --- simulation -----------------------------------------------------------------------------------


def test_simulation_agrees():
    frame = lj.simulate_design({"id": 20}, within={"time": range(5)})
    design = lj.Design.from_formula("y ~ time + (1 + time | id)", frame)
    truth = lj.TrueParameters.for_design(design, {"time": 1}, sd=[3, 1], sigma=4)
    expected = lj.analytic_power(design, truth, "time")
    found = lj.power(design, truth, "time", nsim=8000, key=1)
    error = np.sqrt(expected.power * expected.miss / 8000)
    assert abs(found.power - expected.power) < 4 * error


# --- what is asked for wrongly --------------------------------------------------------------------


def test_the_print_and_the_default():
    design, truth = two_arms(20)
    found = lj.analytic_power(design, truth)
    assert found.test == "time"
    assert str(found).splitlines()[-1] == "20 groups, 5 rows in each"
    joint = lj.analytic_power(design, truth, [[0.0, 1, 0], [0, 0, 1]], alpha=0.01)
    assert joint.test == "armarm2, time"
    assert "Noncentral F" in str(joint)
    assert repr(joint).startswith("<AnalyticPower: armarm2, time, power 0.")


def test_a_fit_is_its_own_truth_with_a_warning(fits):
    fit = fits("sleepstudy", "Reaction ~ Days + (1 + Days | Subject)", method="ML")
    with pytest.warns(lj.LmmWarning, match="observed power"):
        found = lj.analytic_power(fit)
    given = lj.analytic_power(fit.design, lj.TrueParameters.from_fit(fit), "Days", method="ML")
    assert found.power == given.power


def test_errors():
    design, truth = two_arms(20)
    crossed, items = subjects_by_items()
    for arguments, options, match in (
        ((design,), {}, "no truth"),
        ((two_arms, truth), {}, "must be a Design"),
        ((design, truth, "tim"), {}, "did you mean 'time'"),
        ((design, truth, [1.0]), {}, "3 coefficients"),
        ((design, truth, ["time", "2 * time"]), {}, "are only 1"),
        ((design, truth, lambda fits: fits.pvalues), {}, r"lj.power\(\) takes others"),
        ((design, truth), {"alpha": 1.0}, "alpha"),
        ((design, truth), {"method": "OLS"}, "'REML' or 'ML'"),
        ((design, truth), {"groups": 0}, "groups must be positive"),
        ((design, truth), {"per_group": float("nan")}, "per_group must be positive"),
        ((design, truth, "armarm2"), {"groups": 2}, "no degrees of freedom"),
        ((crossed, items), {"groups": 9}, "crossed factors join all rows"),
        ((crossed, truth), {}, "coefficient"),
        ((crossed, "truth"), {}, "must be lj.TrueParameters"),
        # One row a group: its variance is the residual's too.
        ((design, truth), {"per_group": 1}, "tell its variances apart"),
    ):
        with pytest.raises(lj.LmmError, match=match):
            lj.analytic_power(*arguments, **options)


def test_large_blocks_are_multiplied_without_their_zeros(monkeypatch):
    design, _ = subjects_by_items()
    dense = lj.DesignPatterns.of(design)
    monkeypatch.setattr("lmmjax.studies.patterns.DENSE", 1)
    sparse = lj.DesignPatterns.of(design)
    np.testing.assert_allclose(sparse.products, dense.products, rtol=0, atol=1e-12)
    assert sparse.rows == dense.rows == len(design.X)


def test_factors_that_are_too_many(monkeypatch):
    monkeypatch.setattr("lmmjax.studies.patterns.MAX_EFFECTS", 10)
    with pytest.raises(lj.LmmError, match="18 random effects hang together"):
        lj.analytic_power(*subjects_by_items())
