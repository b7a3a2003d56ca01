"""A structure that a user wrote, through everything that reads a fit.

Its family is lme4's, in parameters of its own, so the answers are those of the default fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

import lmmjax as lj
from lmmjax.covariance import Covariance, Diagonal, canonical_factor

FORMULA = "Reaction ~ Days + (1 + Days | Subject)"


class LogCholesky(Covariance):
    """All variances and correlations free: logarithms of the Cholesky factor's pivots."""

    equivariance = "affine"
    n_theta = 3

    def factor(self, theta: Array) -> Array:
        zero = jnp.zeros((), theta.dtype)
        top = jnp.stack([jnp.exp(theta[0]), zero])
        return jnp.stack([top, jnp.stack([theta[1], jnp.exp(theta[2])])])

    def start(self) -> np.ndarray:
        return np.zeros(3)

    def theta_names(self, columns: Sequence[str]) -> list[str]:
        return [f"log {columns[0]}", "below", f"log {columns[1]}"]

    def from_factor(self, factor: np.ndarray) -> np.ndarray:
        lower = canonical_factor(factor)
        return np.array([np.log(lower[0, 0]), lower[1, 0], np.log(lower[1, 1])])


@pytest.fixture(scope="module")
def own() -> lj.LinearMixedModelResult:
    data = lj.datasets.load("sleepstudy")
    return lj.lmm(FORMULA, data, covariance={"Subject": LogCholesky(2)})


def responses(fit: lj.LinearMixedModelResult) -> np.ndarray:
    y = np.asarray(fit.design.y)
    return np.stack([y, y + 20.0 * np.sin(np.arange(y.size))])


#: What is asked of both fits. Where an answer needs what the structure does not tell, the error
#: names it, and what is missing.
ANSWERS: dict[str, Callable[[lj.LinearMixedModelResult], Any]] = {
    "criterion": lambda f: [f.criterion, f.sigma, f.aic, f.df_model],
    "coefficients": lambda f: f.summary().coefficients,
    "varcorr": lambda f: str(f.varcorr),
    "variance components": lambda f: f.variance_components(),
    "delta of covariances": lambda f: f.delta(lambda p: p.sd["Subject"]).frame,
    "anova": lambda f: str(f.anova()),
    "wald intervals": lambda f: f.conf_int(),
    "icc": lambda f: str(f.icc()),
    "effects": lambda f: f.ranef()["Subject"],
    "prediction": lambda f: f.predict(f.data.head(4), interval="prediction"),
    "simulate": lambda f: f.simulate(2, key=1),
    "refit": lambda f: f.refit(responses(f)[1]).fixef,
    "many fits": lambda f: lj.fit_many(f, responses(f)).covariances[0],
    "influence": lambda f: str(f.influence("Subject")),
    "pca": lambda f: str(f.repca()),
    "Kenward-Roger": lambda f: f.anova(ddf="kenward-roger"),
    "profile": lambda f: f.profile(),
}
REFUSED = {
    "Kenward-Roger": "linear in their parameters; LogCholesky is not",
    "profile": "LogCholesky of 'Subject' has no free standard deviations",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_those_of_the_same_family(
    own: lj.LinearMixedModelResult, sleep: lj.LinearMixedModelResult, name: str
) -> None:
    if name in REFUSED:
        with pytest.raises(lj.LmmError, match=REFUSED[name]):
            ANSWERS[name](own)
        return
    found, expected = ANSWERS[name](own), ANSWERS[name](sleep)
    tolerance = 1e-3 if isinstance(found, str) else 2e-5
    assert numbers(found).size
    np.testing.assert_allclose(numbers(found), numbers(expected), rtol=tolerance, atol=1e-7)


def numbers(answer: Any) -> np.ndarray:
    """All numbers of a table, or of what it prints, in order."""
    if isinstance(answer, str):
        return np.array(re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", answer), float)
    if hasattr(answer, "select_dtypes"):
        answer = answer.select_dtypes("number")
    return np.asarray(answer, float)


def test_parameters_of_a_user_have_errors_by_the_derivatives_of_their_factor(
    own: lj.LinearMixedModelResult, sleep: lj.LinearMixedModelResult
) -> None:
    """Those of the logarithms of lme4's, by the delta method."""
    found = own.delta(lambda p: p.theta)
    expected = sleep.delta(
        lambda p: jnp.stack([jnp.log(p.theta[0]), p.theta[1], jnp.log(p.theta[2])])
    )
    np.testing.assert_allclose(found.estimate, expected.estimate, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.frame.iloc[:, 1], expected.frame.iloc[:, 1], rtol=1e-5)


def test_a_structure_that_is_not_what_it_says_is_refused() -> None:
    class Halved(Diagonal):  # with the from_factor of its parent
        def factor(self, theta: Array) -> Array:
            return super().factor(theta) / 2.0

    class Unfinished(LogCholesky):
        from_factor = Covariance.from_factor

    class Short(LogCholesky):
        def start(self) -> np.ndarray:
            return np.zeros(2)

    class Empty(Covariance):
        pass

    data = lj.datasets.load("sleepstudy")
    wrong = {
        Halved: r"Halved says .*'diagonal'.*correct from_factor",
        Unfinished: r"Unfinished says .*'affine'.* needs from_factor",
        Short: r"Short\.start returned shape \(2,\); its n_theta of 3",
        Empty: "Empty does not define all of n_theta, factor, start and theta_names",
    }
    for structure, message in wrong.items():
        with pytest.raises(lj.LmmError, match=message):
            lj.lmm(FORMULA, data, covariance={"Subject": structure(2)})


def test_a_correlation_that_is_known_has_errors_of_its_standard_deviations() -> None:
    """A family that absorbs units, with data of its own: the errors scale with the units."""

    class KnownCorrelation(Covariance):
        equivariance = "diagonal"
        n_theta = 2

        def __init__(self, R: Any) -> None:
            super().__init__(len(R))
            self.root = np.linalg.cholesky(R)

        def factor(self, theta: Array) -> Array:
            return theta[:, None] * jnp.asarray(self.root)

        def start(self) -> np.ndarray:
            return np.ones(2)

        def theta_names(self, columns: Sequence[str]) -> list[str]:
            return list(columns)

        def from_factor(self, factor: np.ndarray) -> np.ndarray:
            return np.linalg.norm(factor, axis=-1)

    R = np.array([[1.0, 0.3], [0.3, 1.0]])
    data = lj.datasets.load("sleepstudy")
    given = {"Subject": KnownCorrelation(R)}
    fits = [
        lj.lmm(FORMULA, data.assign(Days=data["Days"] * unit), covariance=given)
        for unit in (1.0, 1e4)
    ]
    tables = [fit.delta(lambda p: p.theta).frame.to_numpy() for fit in fits]
    np.testing.assert_allclose(tables[1] * [[1.0], [1e4]], tables[0], rtol=1e-5)
    for fit in fits:
        assert np.all(np.isfinite(tables[0]))
        V = fit.raw.factors[0] @ fit.raw.factors[0].T
        assert V[0, 1] / np.sqrt(V[0, 0] * V[1, 1]) == pytest.approx(0.3, abs=1e-10)
