"""Gradients and Hessians against differences in 100 digits, by every road that gives them."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any

import jax
import layouts
import numpy as np
import pytest
from brute_force import Exact, derivatives, exactly, to_numbers
from jax import Array
from test_deviance import LAYOUTS, slope_variants

import lmmjax as lj
from lmmjax.estimate import objective
from lmmjax.likelihood.crossproducts import CrossProducts


@partial(jax.jit, compiler_options=layouts.QUICK)
def search(theta: Array, data: CrossProducts) -> Any:
    """Value, gradient and Hessian that the fit uses, ML and REML."""
    return [objective(theta, data, reml)[:3] for reml in (False, True)]


@partial(jax.jit, static_argnames="mode", compiler_options=layouts.QUICK)
def hessian(theta: Array, data: CrossProducts, mode: str) -> Array:
    """Hessian of the public criterion by the user's own choice of modes."""
    outer, inner = {"forward": (jax.jacfwd, jax.jacfwd), "mixed": (jax.jacfwd, jax.jacrev)}[mode]
    return outer(inner(lj.profiled_deviance))(theta, data)


def along(
    exact: Exact, theta: np.ndarray, wide: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, ML and REML, in the coordinates ``t`` of ``theta + wide t``, at t = 0."""
    start, matrix = exactly(theta), to_numbers(wide, Decimal)

    def both(t: list[Decimal]) -> list[Decimal]:
        summary = exact.at(start + matrix @ t)
        return [summary.criterion(False), summary.criterion(True)]

    return derivatives(both, np.zeros(wide.shape[1]))


def check_search(data: CrossProducts, exact: Exact, points: dict[str, np.ndarray]) -> None:
    """Compare at search parameters; the package's value lacks a constant, the same everywhere."""
    constants: list[list[float]] = []
    for label, theta in points.items():
        wide = np.maximum(np.abs(theta), 1.0)[:, None] * layouts.directions(theta.size)
        truth = along(exact, theta, wide)
        constants.append([])
        for reml, (value, gradient, second) in enumerate(search(theta, data)):
            expected, first, curvature = (part[reml] for part in truth)
            assert layouts.error(np.asarray(gradient) @ wide, first) < 1e-9, label
            # With several terms, standard deviations of 100 times the residual's leave 1e-4 of what
            # the terms share: the digits that its square takes are lost.
            tol = 1e-7 if label == "1e2" and len(data.transforms) > 1 else 1e-9
            assert layouts.error(wide.T @ np.asarray(second) @ wide, curvature) < tol, label
            constants[-1].append(float(value) - float(expected))
    spread = np.ptp(np.array(constants), axis=0)
    assert np.all(spread < 1e-9 * (1 + np.abs(constants[0]))), "the constant is not one"


@pytest.mark.parametrize("name", LAYOUTS)
def test_search_derivatives(name: str) -> None:
    problem, _, data, _ = vars(layouts.built(name)).values()
    thetas = layouts.hard_thetas(problem, seed=1)
    labels = ["typical", "zero", "rank one", "1e2"]
    if len(problem.terms) == 1:
        labels += ["1e3", "1e5", "mixed"]
    exact = Exact(problem, layouts.search_factors(problem, data))
    check_search(data, exact, {label: thetas[label] for label in labels})


@pytest.mark.parametrize("variant", list(slope_variants()))
def test_search_derivatives_with_hard_numbers(variant: str) -> None:
    problem, _ = slope_variants()[variant]
    data = layouts.statistics(problem)
    exact = Exact(problem, layouts.search_factors(problem, data))
    points = {
        "typical": np.array([0.8, 0.3, 0.5]),
        "start": np.asarray(data.start),
        "zero": np.zeros(3),
        "rank one": np.array([0.8, 0.4, 0.2]),
        "1e3": np.array([800.0, 300.0, 500.0]),
    }
    check_search(data, exact, points)


@pytest.mark.parametrize(
    ("name", "mode"),
    [("slope", "forward"), ("slope", "mixed"), ("two levels", "mixed"), ("crossed", "mixed")],
)
def test_hessian_of_the_public_criterion(name: str, mode: str) -> None:
    problem, _, data, exact = vars(layouts.built(name)).values()
    for label, theta in layouts.hard_thetas(problem).items():
        scale = np.maximum(np.abs(theta), 1.0)
        _, _, truth = along(exact, theta, np.diag(scale))
        found = scale[:, None] * np.asarray(hessian(theta, data, mode)) * scale
        if label not in {"1e3", "1e5"} or len(problem.terms) == 1:
            assert layouts.error(found, truth[1]) < 1e-9, label


def test_gradient_vanishes_at_a_variance_of_zero() -> None:
    """The criterion is even in a column of Lambda: curvature, not slope, decides there."""
    data = layouts.built("scalar").data
    for _, gradient, second in search(np.zeros(1), data):
        np.testing.assert_allclose(gradient, 0.0, atol=1e-14)
        assert abs(float(second[0, 0])) > 1e-3


def test_search_parameters_reach_the_same_criterion() -> None:
    """Standardising changes coordinates, not the model: theta and its image give one value."""
    problem = slope_variants()["x plus 1e6"][0]
    data = layouts.statistics(problem)
    phi = np.array([0.8, 0.3, 0.5])
    root = np.linalg.solve(data.transforms[0], np.array([[0.8, 0.3], [0.3, 0.5]]))
    theta = lj.covariance.Unstructured(2).from_factor(root)
    base = np.zeros(3)
    (ml, _, _), (reml, _, _) = search(phi, data)
    (ml_0, _, _), (reml_0, _, _) = search(base, data)
    for value, zero, flag in ((ml, ml_0, False), (reml, reml_0, True)):
        there = lj.profiled_deviance(jax.numpy.asarray(theta), data, reml=flag)
        origin = lj.profiled_deviance(jax.numpy.asarray(base), data, reml=flag)
        np.testing.assert_allclose(there - origin, value - zero, rtol=0, atol=1e-8)
