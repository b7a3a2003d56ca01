"""Covariance structures that hold arrays: the arrays are data, never part of a program."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from typing import Any

import brute_force
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

import lmmjax as lj
from lmmjax.covariance import Covariance, Identity
from lmmjax.fitting import _estimate_response, fit_data

FORMULA = "Reaction ~ Days + (Days | Subject)"
#: Two known covariances of intercept and slope, up to a scale.
SHAPES = [np.array([[1.0, 0.1], [0.1, 0.06]]), np.array([[1.0, -0.5], [-0.5, 10.0]])]


class Known(Covariance):
    """A known covariance matrix up to its scale, as a user would write it."""

    n_theta = 1

    def __init__(self, size: int, K: Any) -> None:
        super().__init__(size)
        self.K = K

    @cached_property
    def names(self) -> list[str]:
        return ["scale"]

    def factor(self, theta: Array) -> Array:
        return theta[0] * jnp.linalg.cholesky(self.K)

    def start(self) -> np.ndarray:
        return np.sqrt(np.diagonal(self.K))[:1]  # by NumPy, of its data

    def theta_names(self, columns: Sequence[str]) -> list[str]:
        return self.names


@dataclass(frozen=True)
class KnownField(Covariance):
    """The same as a dataclass, its array a field."""

    K: Any
    n_theta = 1
    factor = Known.factor
    start = Known.start

    def theta_names(self, columns: Sequence[str]) -> list[str]:
        return ["scale"]


def fitted(structure: Covariance) -> lj.LinearMixedModelResult:
    data = lj.datasets.load("sleepstudy")
    return lj.lmm(FORMULA, data, covariance={"Subject": structure})


def oracle(fit: lj.LinearMixedModelResult, K: np.ndarray) -> brute_force.Exact:
    """The same model in 100 digits."""
    (term,) = fit.design.terms
    problem = brute_force.Problem(
        fit.design.X, fit.design.y, ((term.Z, term.index, len(term.levels)),)
    )
    root = brute_force.to_numbers(np.linalg.cholesky(K), Decimal)
    return brute_force.Exact(problem, lambda theta: [theta[0] * root])


@pytest.fixture(scope="module")
def pairs() -> dict[type, list[lj.LinearMixedModelResult]]:
    """Fits of both matrices one after the other, of both ways to hold them."""
    return {cls: [fitted(cls(2, K)) for K in SHAPES] for cls in (Known, KnownField)}


@pytest.mark.parametrize("cls", [Known, KnownField])
@pytest.mark.parametrize("which", [0, 1])
def test_structures_that_differ_in_data_do_not_share_a_result(
    pairs: dict[type, list[lj.LinearMixedModelResult]], cls: type, which: int
) -> None:
    fit = pairs[cls][which]
    exact = oracle(fit, SHAPES[which])
    value, slope, _ = brute_force.derivatives(lambda t: exact.criterion(t, True), fit.theta)
    assert fit.criterion == pytest.approx(float(value), rel=1e-12)
    np.testing.assert_allclose(slope, 0.0, atol=1e-6)
    again = fit.refit(np.asarray(lj.datasets.load("sleepstudy")["Reaction"]))
    assert again.criterion == pytest.approx(float(value), rel=1e-12)


def test_structures_that_differ_in_data_share_their_programs(
    pairs: dict[type, list[lj.LinearMixedModelResult]],
) -> None:
    """One program for both matrices, and one more for another class."""
    before = len(fit_data._loaded), len(_estimate_response._loaded)
    third = fitted(Known(2, jnp.eye(2, dtype=jnp.float32)))  # of another type: a program of its own
    assert len(fit_data._loaded) == before[0] + 1
    fit = fitted(Known(2, np.eye(2)))
    assert (len(fit_data._loaded), len(_estimate_response._loaded)) == (before[0] + 1, before[1])
    assert fit.criterion == pytest.approx(third.criterion, rel=1e-12)


def test_many_fits_use_the_data_of_their_structure(
    pairs: dict[type, list[lj.LinearMixedModelResult]],
) -> None:
    for fit in pairs[Known]:
        many = lj.fit_many(fit, np.asarray(fit.design.y)[None])
        assert many.criterion[0] == pytest.approx(fit.criterion, rel=1e-10)


def test_the_likelihood_is_a_function_of_a_structures_data(
    pairs: dict[type, list[lj.LinearMixedModelResult]],
) -> None:
    """Batched over matrices, by a tree of axes too, and differentiated in one."""
    fit = pairs[Known][0]
    with lj.double_precision():
        data = jax.tree.map(jnp.asarray, fit.raw.data)

        def value(K: Array, theta: Array) -> Array:
            own = replace(data, structures=((Known(2, K),),))
            return lj.profiled_deviance(theta, own)

        theta = jnp.asarray(fit.theta)
        both = jax.jit(jax.vmap(value, (0, None)))(jnp.asarray(np.stack(SHAPES)), theta)
        slope = jax.jit(jax.grad(value))(jnp.asarray(SHAPES[0]), theta)
        batched = jax.tree.map(lambda x: jnp.stack([x, x]), data)
        axes = jax.tree.map(lambda _: 0, data)
        twice = jax.jit(jax.vmap(lj.profiled_deviance, (None, axes)))(theta, batched)
    expected = [float(oracle(fit, K).criterion(fit.theta, True)) for K in SHAPES]
    np.testing.assert_allclose(both, expected, rtol=1e-12)
    np.testing.assert_allclose(twice, expected[0], rtol=1e-12)
    step = np.zeros((2, 2))
    step[0, 0] = 1e-5
    ends = [float(oracle(fit, SHAPES[0] + s * step).criterion(fit.theta, True)) for s in (-1, 1)]
    assert float(slope[0, 0]) == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-7)


def test_equal_is_what_holds_the_same_data() -> None:
    for cls in (Known, KnownField):
        one, same, other = cls(2, np.eye(2)), cls(2, np.eye(2)), cls(2, 2 * np.eye(2))
        assert one == same
        assert hash(one) == hash(same)
        assert one != other
        assert one != Identity(2)
    structure = Known(2, np.eye(2))
    assert structure.names == ["scale"]  # cached: it does not count
    assert structure == Known(2, np.eye(2))
    through = jax.tree.map(lambda x: x, structure)
    for made in (through, copy.deepcopy(through), pickle.loads(pickle.dumps(through))):
        assert made == structure


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, True), (0.0, -0.0), ("a", "b")])
def test_configuration_is_compared_by_type_and_value(one: Any, other: Any) -> None:
    left, same, right = (jax.tree.structure(Known(2, x)) for x in (one, one, other))
    assert left == same
    assert left != right


def test_models_with_different_known_matrices_are_not_nested(
    pairs: dict[type, list[lj.LinearMixedModelResult]],
) -> None:
    from lmmjax.bootstrap.nested import check_nested

    data = lj.datasets.load("sleepstudy")
    small = lj.lmm(
        "Reaction ~ 1 + (Days | Subject)", data, covariance={"Subject": Known(2, SHAPES[0])}
    )
    check_nested(pairs[Known][0], small)
    with pytest.raises(lj.LmmError, match="not nested"):
        check_nested(pairs[Known][1], small)


def test_what_a_trace_cannot_know_is_said() -> None:
    class ByNumpy(Known):
        def factor(self, theta: Array) -> Array:
            return theta[0] * np.linalg.cholesky(self.K)

    class Wide(Known):
        def factor(self, theta: Array) -> Array:
            return theta[0] * jnp.ones((2, 3))

    with pytest.raises(lj.LmmError, match=r"ByNumpy\.factor cannot be traced.*jax\.numpy"):
        fitted(ByNumpy(2, np.eye(2)))
    with pytest.raises(lj.LmmError, match=r"Wide\.factor returned shape \(2, 3\)"):
        fitted(Wide(2, np.eye(2)))
    with pytest.raises(lj.LmmError, match="Known holds a set in 'K'"):
        jax.tree.flatten(Known(2, {1.0}))
