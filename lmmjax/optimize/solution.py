"""What a minimiser gives back: the point, its derivatives, and a status code.

Raising is the caller's choice.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

from jax import Array

#: A fit has converged when no component of the gradient, in standardised parameters, exceeds this.
GRADIENT_TOL = 1e-6


class Status(IntEnum):
    """How a minimisation ended."""

    CONVERGED = 0
    #: The iteration limit was reached first.
    ITERATION_LIMIT = 1
    #: The criterion is not finite at the start, or nowhere that the search could go.
    NOT_FINITE = 2
    #: No further decrease although the gradient is not small.
    STALLED = 3

    @property
    def message(self) -> str:
        """One sentence for the user."""
        return {
            Status.CONVERGED: "converged: gradient below tolerance, Hessian positive semi-definite",
            Status.ITERATION_LIMIT: "stopped at the iteration limit before the gradient was small",
            Status.NOT_FINITE: "the criterion is not finite",
            Status.STALLED: "no further decrease, although the gradient is not small",
        }[self]


class Solution(NamedTuple):
    """Where a minimiser stopped.

    Attributes
    ----------
    theta : Array, shape (m,)
    value : Array, scalar
        The objective, without the constants that do not depend on theta.
    gradient : Array, shape (m,)
    hessian : Array, shape (m, m)
    aux : pytree
        What the objective found on the way, at theta.
    iterations : Array, scalar int
        Evaluations of the objective.
    status : Array, scalar int
        A :class:`Status`.
    """

    theta: Array
    value: Array
    gradient: Array
    hessian: Array
    aux: Any
    iterations: Array
    status: Array
