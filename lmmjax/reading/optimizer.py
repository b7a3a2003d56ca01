"""How the minimisation went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmmjax.optimize.solution import Status

if TYPE_CHECKING:
    from lmmjax.estimates import Estimates


@dataclass(frozen=True)
class OptimizerSummary:
    """How the minimisation went.

    Attributes
    ----------
    optimizer : str
    status : Status
    message : str
        The status as a sentence.
    iterations : int
        Evaluations of the criterion (with its derivatives).
    gradient : ndarray, shape (n_theta,)
        At the end, in search parameters for columns of unit scale.
    max_gradient : float
        Its largest component, in absolute value.
    eigenvalues : ndarray, shape (n_theta,)
        Of the Hessian at the end, ascending.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
    >>> fit.optimizer_summary.status.name
    'CONVERGED'
    >>> fit.optimizer_summary.max_gradient < 1e-6
    True
    """

    optimizer: str
    status: Status
    message: str
    iterations: int
    gradient: np.ndarray
    max_gradient: float
    eigenvalues: np.ndarray

    def __str__(self) -> str:
        smallest = f"{self.eigenvalues[0]:.3g}" if self.eigenvalues.size else "none"
        return (
            f"{self.optimizer}: {self.message}; {self.iterations} evaluations, largest gradient "
            f"{self.max_gradient:.1e}, smallest curvature {smallest}"
        )


def optimizer_summary(fit: Estimates) -> OptimizerSummary:
    """Read the minimiser's solution."""
    solution = fit.raw.estimate.solution
    status = Status(int(solution.status))
    gradient = np.asarray(solution.gradient)
    name = fit.raw.optimizer
    return OptimizerSummary(
        optimizer=name if isinstance(name, str) else type(name).__name__,
        status=status,
        message=status.message,
        iterations=int(solution.iterations),
        gradient=gradient,
        max_gradient=float(np.max(np.abs(gradient), initial=0.0)),
        eigenvalues=np.linalg.eigvalsh(np.asarray(solution.hessian)),
    )
