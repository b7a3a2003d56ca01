"""What a fit tells its user: singular, not converged, directions left out. One message each.

The tests that run at every fit are a few operations on small NumPy arrays; words are made only when
there is something to say.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np

from lmmjax.covariance import Diagonal, SymmetricRoot, Unstructured, canonical_factor
from lmmjax.errors import ConvergenceWarning, LmmWarning, SingularFitWarning
from lmmjax.optimize.solution import GRADIENT_TOL, Status

if TYPE_CHECKING:
    from lmmjax.covariance import Covariance
    from lmmjax.design import Design
    from lmmjax.estimates import Estimates
    from lmmjax.fitting import Fitted

#: lme4's threshold for a relative Cholesky diagonal.
SINGULAR_TOL = 1e-4


def _pivots(structure: Covariance, theta: np.ndarray) -> list[float] | None:
    """Diagonal of the Cholesky factor of a common structure; None for the others.

    In plain numbers where that is possible: this runs at every fit, and a call into LAPACK costs as
    much as all the rest of it.
    """
    if isinstance(structure, Diagonal):
        return [abs(v) for v in theta.tolist()]
    if not isinstance(structure, Unstructured):
        return None
    if structure.size == 1:
        return [abs(float(theta[0]))]
    if structure.size == 2:
        a, b, c = theta.tolist()
        if not isinstance(structure, SymmetricRoot):
            return [abs(a), abs(c)]
        first = math.hypot(a, b)
        return [first, abs(a * c - b * b) / first if first else 0.0]
    col, row = np.triu_indices(structure.size)
    root = np.zeros((structure.size, structure.size))
    root[row, col] = theta
    if isinstance(structure, SymmetricRoot):
        root[col, row] = theta
    return np.diagonal(canonical_factor(root)).tolist()


def singular_bars(raw: Fitted, tol: float = SINGULAR_TOL) -> list[tuple[int, int, int]]:
    """Term, first column and size of each bar whose covariance matrix is singular.

    Relative to sigma and for columns of unit scale: those of an unstructured bar are
    orthonormalised (so for a slope it does not matter where its variable's zero is), others are
    divided by their root mean square.
    """
    found, at = [], 0
    theta = np.asarray(raw.estimate.solution.theta)
    for t, bars in enumerate(raw.prepared.search_structures):
        position = 0
        for structure in bars:
            pivots = _pivots(structure, theta[at : at + structure.n_theta])
            size = structure.size
            if pivots is None:
                own = slice(position, position + size)
                root = np.asarray(raw.estimate.factors[t])[own, own]
                if structure.equivariance == "none":
                    # Searched in the columns' own units: bring them to unit scale here.
                    scale = np.sqrt(np.mean(np.square(raw.prepared.term_rows[t][:, own]), axis=0))
                    root = root * scale[:, None]
                pivots = np.diagonal(canonical_factor(root)).tolist()
            # Written so that NaN counts as singular.
            if not all(pivot >= tol for pivot in pivots):
                found.append((t, position, size))
            at += structure.n_theta
            position += size
    return found


def singular_message(fit: Estimates, bars: list[tuple[int, int, int]]) -> str:
    """Which variances are zero and which correlations ±1, and what to do."""
    said = []
    for t, start, size in bars:
        term = fit.design.terms[t]
        own = slice(start, start + size)
        root = np.linalg.solve(
            np.asarray(fit.raw.prepared.transforms[t])[own, own],
            fit.raw.estimate.factors[t][own, own],
        )
        # Standard deviations relative to sigma, times the columns' own size, as in the test.
        scale = np.sqrt(np.mean(term.Z[:, own] ** 2, axis=0))
        sd = np.linalg.norm(root, axis=1) * scale
        names = term.columns[start : start + size]
        zero = [name for name, s in zip(names, sd, strict=True) if not s >= SINGULAR_TOL]
        if zero:
            said.append(
                f"the variance of {' and of '.join(map(repr, zero))} among the levels of "
                f"{term.group!r} is zero"
            )
        elif size == 2:
            corr = root[0] @ root[1]
            said.append(
                f"the correlation of {names[0]!r} and {names[1]!r} in {term.group!r} is "
                f"{'+1' if corr > 0 else '-1'}"
            )
        else:
            spectrum = np.linalg.svd(root * scale[:, None], compute_uv=False)
            said.append(
                f"the covariance matrix of {term.group!r} has rank "
                f"{int(np.sum(spectrum >= SINGULAR_TOL))} of {size}"
            )
    single = all(size == 1 for _, _, size in bars)
    remedy = (
        "leave the term out"
        if single
        else "leave the term or the correlation out ('||' in the formula)"
    )
    return (
        f"boundary (singular) fit: {'; '.join(said)}. The estimates are the optimum, but the data "
        f"do not support this many variance parameters: {remedy}, or keep it and say so"
    )


def status_message(fit: Estimates) -> str:
    """Why the minimiser stopped early, and what to do."""
    solution = fit.raw.estimate.solution
    worst = float(np.max(np.abs(solution.gradient), initial=0.0))
    status = Status(int(solution.status))
    return (
        f"the fit did not converge: {status.message} (after {int(solution.iterations)} "
        f"evaluations, largest gradient {worst:.1e}, tolerance {GRADIENT_TOL:g}). Rescale or "
        "centre the predictors, leave weakly supported random effects out, or try another "
        "optimizer="
    )


def dropped_message(count: int) -> str:
    """Directions without curvature were left out of the degrees of freedom."""
    one = count == 1
    return (
        f"{count} direction{'' if one else 's'} of the variance parameters in which the criterion "
        f"has no curvature {'was' if one else 'were'} left out of the Satterthwaite degrees of "
        "freedom: those may be too large"
    )


def fit_messages(fit: Estimates) -> list[tuple[type[LmmWarning], str]]:
    """Everything that is wrong with a fit, worst first."""
    out: list[tuple[type[LmmWarning], str]] = []
    estimate = fit.raw.estimate
    if int(estimate.solution.status) != Status.CONVERGED:
        out.append((ConvergenceWarning, status_message(fit)))
    bars = singular_bars(fit.raw)
    if bars:
        out.append((SingularFitWarning, singular_message(fit, bars)))
    dropped = int(estimate.fixed.dropped)
    if dropped:
        out.append((ConvergenceWarning, dropped_message(dropped)))
    return out


def warn_about(fit: Estimates, stacklevel: int) -> None:
    """Warn of everything that is wrong with a fit."""
    for category, text in fit.problems:
        warnings.warn(text, category, stacklevel=stacklevel)


def design_messages(design: Design) -> list[str]:
    """Rows and columns that are not in the fit."""
    out = []
    if design.n_dropped:
        one = design.n_dropped == 1
        out.append(
            f"{design.n_dropped} row{'' if one else 's'} of {design.n + design.n_dropped} "
            f"{'was' if one else 'were'} dropped for missing values"
        )
    if design.dropped_columns:
        out.append(
            "fixed-effects columns dropped as combinations of earlier ones: "
            + ", ".join(design.dropped_columns)
        )
    return out
