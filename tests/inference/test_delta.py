"""Standard errors by the delta method: against closed forms, dense likelihoods, and R."""

import json
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import lmmjax as lj

R = json.loads((Path(__file__).parent / "influence.json").read_text())
Z95 = 1.959963984540054


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_balanced_one_way_has_closed_forms(fits, method):
    """Searle, Casella & McCulloch (1992), Variance Components, sections 4.5.d and 4.7.d.

    With lambda = sigma_e^2 + m sigma_a^2: Var(lambda) = 2 lambda^2 / (a - 1) (a under ML),
    Var(sigma_e^2) = 2 sigma_e^4 / (a (m - 1)), independent.
    """
    fit = fits("Dyestuff", "Yield ~ 1 + (1 | Batch)", method)
    a, m = 6, 5
    s2 = fit.sigma**2
    lam = s2 + m * fit.varcorr["Batch"][0, 0]
    var_lam = 2 * lam**2 / (a - 1 if method == "REML" else a)
    var_s2 = 2 * s2**2 / (a * (m - 1))
    table = fit.variance_components(scale="variance")
    assert_allclose(table["se"] ** 2, [(var_lam + var_s2) / m**2, var_s2], rtol=1e-6)
    # sd by its own delta method, on the back of the variance's
    sds = fit.variance_components()
    assert_allclose(sds["se"], table["se"] / (2 * sds["estimate"]), rtol=1e-6)
    assert_allclose(np.log(sds["upper"] / sds["estimate"]), Z95 * sds["se"] / sds["estimate"])
    # rho = (lambda - s2) / (lambda + (m - 1) s2)
    below = lam + (m - 1) * s2
    by_lam, by_s2 = m * s2 / below**2, -m * lam / below**2
    se = np.sqrt(by_lam**2 * var_lam + by_s2**2 * var_s2)
    icc = fit.icc()
    assert_allclose(icc.frame.loc["adjusted", "se"], se, rtol=1e-6)
    rho = icc.adjusted
    low, high = icc.frame.loc["adjusted", ["lower", "upper"]]
    half = Z95 * se / (rho * (1 - rho))
    for limit, sign in ((low, -1), (high, 1)):
        assert_allclose(np.log(limit / (1 - limit)), np.log(rho / (1 - rho)) + sign * half)
    assert_allclose(fit.repeatability().loc["Batch"], icc.frame.loc["adjusted"])
    effect = fit.design_effect().loc["Batch"]
    assert_allclose(effect[["size", "deff", "se"]], [m, 1 + (m - 1) * rho, (m - 1) * se])
    assert_allclose(effect["n_effective"], 30 / (1 + (m - 1) * rho))


def dense_criterion(fit, parts):
    """REML criterion or deviance from the blocks of V; parts (s11, s21, s22, sigma)."""
    # 18 subjects of 10 rows each, all with the same predictors
    columns = np.column_stack([fit.design.X, fit.design.y]).reshape(18, 10, 3)
    s11, s21, s22, sigma = parts
    Z = columns[0, :, :2]
    V = Z @ np.array([[s11, s21], [s21, s22]]) @ Z.T + sigma**2 * np.eye(10)
    chol = np.linalg.cholesky(V)
    A = np.linalg.solve(chol, columns).reshape(180, 3)
    gram = A[:, :-1].T @ A[:, :-1]
    beta = np.linalg.solve(gram, A[:, :-1].T @ A[:, -1])
    rest = A[:, -1] - A[:, :-1] @ beta
    out = 18 * 2 * np.sum(np.log(np.diagonal(chol))) + rest @ rest
    return out + np.linalg.slogdet(gram)[1] if fit.reml else out


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_covariance_from_a_dense_numerical_hessian(fits, method):
    fit = fits("sleepstudy", "Reaction ~ Days + (1 + Days | Subject)", method)
    G = fit.varcorr["Subject"]
    x = np.array([G[0, 0], G[1, 0], G[1, 1], fit.sigma])
    step = np.array([20.0, 4.0, 1.0, 0.4])

    def hessian(scale):
        h, out = scale * step, np.empty((4, 4))
        E = np.diag(h)
        for i in range(4):
            for j in range(4):
                at = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
                f = [dense_criterion(fit, x + a * E[i] + b * E[j]) for a, b in at]
                out[i, j] = (f[0] - f[1] - f[2] + f[3]) / (4 * h[i] * h[j])
        return out

    # Richardson's extrapolation of central differences
    cov = 2 * np.linalg.inv((4 * hessian(0.5) - hessian(1.0)) / 3)
    found = fit.delta(lambda p: jnp.append(p.cov["Subject"].ravel()[jnp.array([0, 1, 3])], p.sigma))
    assert_allclose(found.covariance, cov, rtol=1e-3, atol=1e-4 * np.abs(cov).max())
    assert_allclose(found.se, np.sqrt(np.diagonal(cov)), rtol=1e-4)


def test_parameters_by_every_name(sleep):
    def everything(p):
        return {
            "beta": p.beta,
            "coef": p.coef("Days"),
            "theta": p.theta,
            "cov": p.cov["Subject"],
            "sd": p.sd["Subject"],
            "corr": p.corr["Subject"][0, 1],
            "variance": p.variance("Subject", "Days"),
            "covariance": p.covariance("Subject", "Days", "(Intercept)"),
            "correlation": p.correlation("Subject", "(Intercept)", "Days"),
            "sigma": p.sigma,
        }

    found = sleep.delta(everything)
    e, se = found.estimate, found.se
    G = sleep.varcorr["Subject"]
    assert_allclose(e["beta"], sleep.beta)
    assert_allclose(se["beta"], sleep.bse)
    assert_allclose(e["theta"], sleep.theta)
    assert_allclose(e["cov"], G, rtol=1e-10)
    assert_allclose(e["sd"], np.sqrt(np.diagonal(G)))
    assert_allclose([e["covariance"], e["variance"]], G[1], rtol=1e-10)
    assert_allclose(e["corr"], e["correlation"])
    components = sleep.variance_components()
    assert_allclose([*se["sd"], se["corr"], se["sigma"]], components["se"])
    # theta_1 sigma is the standard deviation of the intercepts
    product = sleep.delta(lambda p: p.theta[0] * p.sigma)
    assert_allclose([product.estimate, product.se], [e["sd"][0], se["sd"][0]])
    assert found.frame.index.tolist()[:2] == ["beta[0]", "beta[1]"]
    assert "cov[1, 0]" in found.covariance.columns
    assert "theta[2]" in str(found)
    assert isinstance(found.se["sigma"], float)
    assert se["cov"].shape == (2, 2)
    # What is linear in beta has the standard error of contest().
    line = sleep.delta(lambda p: p.beta[0] + 5 * p.beta[1])
    test = sleep.contest("(Intercept) + 5 * Days", joint=False)
    assert_allclose([line.estimate, line.se], test[["Estimate", "Std. Error"]].to_numpy()[0])


def test_intervals_on_their_scales(sleep):
    for scale, forth, back in (
        ("log", np.log, np.exp),
        ("logit", lambda x: np.log(x / (1 - x)), lambda x: 1 / (1 + np.exp(-x))),
        ("atanh", np.arctanh, np.tanh),
    ):
        found = sleep.delta(lambda p: p.sigma / p.coef("(Intercept)"), level=0.9, scale=scale)
        x, se = found.estimate, found.se
        slope = (forth(x + 1e-6) - forth(x - 1e-6)) / 2e-6
        expected = back(forth(x) + np.array([-1, 1]) * 1.6448536269514722 * slope * se)
        assert_allclose(found.frame[["lower", "upper"]].to_numpy()[0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "kwargs", "says"),
    [
        (lambda p: np.exp(np.asarray(p.beta)), {}, "jax.numpy"),
        (lambda p: 1.0 if p.sigma > 1 else 2.0, {}, "branches"),
        (lambda p: float(p.sigma), {}, "jax.numpy"),
        (lambda p: "text", {}, "must return numbers"),
        (lambda p: None, {}, "returned nothing"),
        (lambda p: p.coef("Dayz"), {}, "no coefficient 'Dayz'"),
        (lambda p: p.variance("Subjects"), {}, "no grouping factor"),
        (lambda p: p.variance("Subject", "Dayz"), {}, "no effect of 'Subject'"),
        (lambda p: p.sigma, {"scale": "sqrt"}, "scale must be"),
        (lambda p: p.sigma, {"level": 95}, "level"),
    ],
)
def test_delta_says_what_is_wrong(sleep, function, kwargs, says):
    with pytest.raises(lj.LmmError, match=says):
        sleep.delta(function, **kwargs)


def test_no_standard_error_at_the_boundary(fits):
    fit = fits("Dyestuff2", "Yield ~ 1 + (1 | Batch)")
    found = fit.delta(lambda p: {"between": p.variance("Batch"), "sigma": p.sigma, "b": p.beta})
    assert np.isnan(found.se["between"])
    assert_allclose(found.se["b"], fit.bse)
    # With no variance between groups sigma is that of independent rows: sd sigma / sqrt(2 (n - 1)).
    assert_allclose(found.se["sigma"], fit.sigma / np.sqrt(2 * 29), rtol=1e-6)
    assert "boundary" in str(found)
    assert fit.icc().adjusted == pytest.approx(0.0, abs=1e-10)
    assert np.isnan(fit.icc().frame["se"]).all()
    assert "boundary" in str(fit.icc())


def test_explained_variance_from_its_definition(sleep):
    """R's parts: Johnson's mean variance from the n x n matrix, var() of the fitted line."""
    parts = R["parts"]
    total = sum(parts.values())
    r2 = sleep.r2()
    assert_allclose(r2.marginal, parts["fixed"] / total, rtol=1e-6)
    assert_allclose(r2.conditional, (parts["fixed"] + parts["random"]) / total, rtol=1e-6)
    # What R's performance prints for this fit.
    assert f"{r2.marginal:.3f} {r2.conditional:.3f}" == "0.279 0.799"
    shares = sleep.repeatability(adjusted=False)["estimate"]
    assert_allclose(shares.sum(), sleep.icc().conditional)
    assert "marginal" in str(r2)


def test_standard_error_of_explained_variance(sleep):
    """With derivatives of a NumPy formula by finite differences."""
    X, Z = sleep.design.X, sleep.design.terms[0].Z

    def r2(x):
        fixed = np.var(X @ x[:2], ddof=1)
        random = np.mean(np.einsum("ni,ij,nj->n", Z, x[2:6].reshape(2, 2), Z))
        total = fixed + random + x[6] ** 2
        return np.array([fixed / total, (fixed + random) / total])

    at = sleep.delta(lambda p: jnp.concatenate([p.beta, p.cov["Subject"].ravel(), p.sigma[None]]))
    h = 1e-5 * np.maximum(np.abs(at.estimate), 1.0)
    J = np.stack(
        [
            (r2(at.estimate + e) - r2(at.estimate - e)) / (2 * s)
            for e, s in zip(np.diag(h), h, strict=True)
        ],
        axis=1,
    )
    expected = np.sqrt(np.diagonal(J @ at.covariance.to_numpy() @ J.T))
    assert_allclose(sleep.r2().frame["se"], expected, rtol=1e-6)


def test_explained_variance_as_published():
    """The example of performance::r2_nakagawa: 0.969 conditional, 0.658 marginal."""
    iris = pd.DataFrame(R["iris"])
    r2 = lj.lmm("y ~ x + (1 | g)", iris).r2()
    assert f"{r2.conditional:.3f} {r2.marginal:.3f}" == "0.969 0.658"


def test_design_effect_of_unequal_groups(fits):
    frame = fits.data("sleepstudy")
    frame = frame[(np.arange(180) % 7 != 0) | (frame["Days"] > 4)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lj.LmmWarning)
        fit = lj.lmm("Reaction ~ 1 + (1 | Subject)", frame)
    m = frame["Subject"].value_counts().to_numpy()
    rho = fit.icc().adjusted
    weighted = fit.design_effect().loc["Subject"]
    assert_allclose(weighted["deff"], 1 + (np.sum(m**2) / np.sum(m) - 1) * rho)
    # Kish's other form: (1 + cv^2) times the mean size.
    cv2 = np.var(m) / np.mean(m) ** 2
    assert_allclose(weighted["size"], (1 + cv2) * m.mean())
    plain = fit.design_effect(size="mean").loc["Subject"]
    assert_allclose(plain["deff"], 1 + (m.mean() - 1) * rho)
    with pytest.raises(lj.LmmError, match="size must be"):
        fit.design_effect(size="median")


def test_several_factors_and_structures(fits):
    penicillin = fits("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)")
    table = penicillin.repeatability()
    assert table.index.tolist() == ["plate", "sample"]
    assert_allclose(table["estimate"].sum(), penicillin.icc().adjusted)
    ratio = penicillin.delta(lambda p: p.variance("plate") / p.variance("sample"))
    variances = penicillin.variance_components(scale="variance")["estimate"]
    assert_allclose(ratio.estimate, variances[0] / variances[1])
    independent = fits("sleepstudy", "Reaction ~ Days + (1 + Days || Subject)")
    product = independent.delta(lambda p: p.theta * p.sigma)
    sds = independent.variance_components()
    assert_allclose(product.se, sds["se"][:2])
    assert independent.delta(lambda p: p.cov["Subject"]).se[0, 1] == 0.0
    with pytest.raises(lj.LmmError, match="scale must be"):
        independent.variance_components(scale="precision")
