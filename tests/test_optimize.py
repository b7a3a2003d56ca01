"""Newton's method on functions whose minima are known."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

import lmmjax as lj
from lmmjax.likelihood.jets import Objective
from lmmjax.optimize import Solution, newton
from lmmjax.optimize.solution import GRADIENT_TOL, Status


def with_derivatives(function: Callable[[Array], Array]) -> Callable[[Array], Objective]:
    return lambda x: Objective(function(x), jax.grad(function)(x), jax.hessian(function)(x))


def minimise(function: Callable[[Array], Array], start: list[float], **options: float) -> Solution:
    with lj.double_precision():
        run = jax.jit(lambda x: newton(with_derivatives(function), x, **options))  # type: ignore[arg-type]
        return jax.device_get(run(jnp.asarray(start)))


def quadratic(x: Array) -> Array:
    matrix = jnp.array([[4.0, 1.0], [1.0, 3.0]])
    return 0.5 * x @ matrix @ x - jnp.array([1.0, 2.0]) @ x + 10.0


def double_well(x: Array) -> Array:
    """Minima at (+-1, 0), saddle at the origin where the gradient vanishes."""
    return (x[0] ** 2 - 1) ** 2 + x[1] ** 2


def rosenbrock(x: Array) -> Array:
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def test_quadratic_takes_one_step() -> None:
    found = minimise(quadratic, [0.3, -0.2])
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.theta, np.linalg.solve([[4, 1], [1, 3]], [1, 2]), rtol=1e-12)
    assert found.iterations <= 3
    np.testing.assert_allclose(found.hessian, [[4, 1], [1, 3]])
    np.testing.assert_allclose(found.value, quadratic(found.theta), rtol=1e-7)


def test_one_parameter() -> None:
    found = minimise(lambda x: jnp.cosh(x[0] - 2.0), [5.0])
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.theta, 2.0, atol=1e-9)


def test_far_beyond_the_trust_radius() -> None:
    found = minimise(quadratic, [1e6, -1e6])
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.theta, np.linalg.solve([[4, 1], [1, 3]], [1, 2]), rtol=1e-6)
    assert found.iterations < 25


@pytest.mark.parametrize("start", [[0.0, 0.0], [0.0, 1.0], [1e-9, -3.0]])
def test_leaves_a_saddle_where_the_gradient_vanishes(start: list[float]) -> None:
    found = minimise(double_well, start)
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(np.abs(found.theta), [1.0, 0.0], atol=1e-7)


def test_a_maximum_at_the_start_is_left_too() -> None:
    found = minimise(lambda x: jnp.sum(jnp.cos(x)), [0.0, 0.0, 0.0])
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.value, -3.0, rtol=1e-12)


def test_curved_valley() -> None:
    found = minimise(rosenbrock, [-1.2, 1.0])
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.theta, 1.0, atol=1e-6)
    assert found.iterations < 60


def test_flat_direction_counts_as_converged() -> None:
    """A singular Hessian: where a minimum is not unique, any of them will do."""
    found = minimise(lambda x: (x[0] + x[1] - 1) ** 2, [3.0, 5.0])
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.theta.sum(), 1.0, atol=1e-7)


def test_a_minimum_of_fourth_order() -> None:
    """Curvature zero at the minimum, as at a variance on its boundary in the limit."""
    found = minimise(lambda x: jnp.sum(x**4), [2.0, -1.0])
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.theta, 0.0, atol=0.02)
    assert np.max(np.abs(found.gradient)) <= GRADIENT_TOL


def test_a_start_that_is_not_finite() -> None:
    found = minimise(lambda x: jnp.sum(jnp.log(x)), [-1.0, 1.0])
    assert found.status == Status.NOT_FINITE
    np.testing.assert_array_equal(found.theta, [-1.0, 1.0])


def test_backs_off_from_where_the_function_is_not_finite() -> None:
    found = minimise(lambda x: x[0] - jnp.log(x[0]), [1e-3])
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.theta, 1.0, atol=1e-7)


def test_iteration_limit() -> None:
    found = minimise(rosenbrock, [-1.2, 1.0], max_iterations=5)
    assert found.status == Status.ITERATION_LIMIT
    assert found.iterations == 5
    assert found.value <= rosenbrock(jnp.array([-1.2, 1.0]))


def test_unbounded_below_is_not_called_converged() -> None:
    found = minimise(lambda x: -jnp.sum(x**2), [0.1, 0.2], max_iterations=30)
    assert found.status != Status.CONVERGED


def test_a_lying_gradient_stalls() -> None:
    """Where the derivatives disagree with the value the search stops and says so."""
    with lj.double_precision():
        found = newton(
            lambda x: Objective(jnp.sum(x**2), -2 * x, 2 * jnp.eye(2)), jnp.array([1.0, 1.0])
        )
    assert found.status == Status.STALLED


def test_lanes_of_a_batch_are_independent() -> None:
    with lj.double_precision():
        starts = jnp.array([[0.0, 0.0], [-1.2, 1.0], [5.0, 5.0]])
        run = jax.jit(jax.vmap(lambda x: newton(with_derivatives(rosenbrock), x)))
        together = jax.device_get(run(starts))
        alone = [minimise(rosenbrock, list(map(float, start))) for start in starts]
    assert np.all(together.status == Status.CONVERGED)
    for lane, single in enumerate(alone):
        np.testing.assert_allclose(together.theta[lane], single.theta, rtol=1e-9)
        assert together.iterations[lane] == single.iterations


def test_single_precision_converges_to_its_own_floor() -> None:
    found = newton(with_derivatives(quadratic), jnp.zeros(2, jnp.float32), tol=1e-4)
    assert found.theta.dtype == jnp.float32
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.theta, np.linalg.solve([[4, 1], [1, 3]], [1, 2]), rtol=1e-5)


def test_every_status_has_a_sentence() -> None:
    assert len({status.message for status in Status}) == len(Status)
