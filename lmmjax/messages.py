"""What a fit tells its user: singular, not converged, directions left out. One message each.

The tests that run at every fit are a few operations on small NumPy arrays; words are made only when
there is something to say.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lmmjax.errors import (
    ConvergenceWarning,
    DataError,
    DesignWarning,
    LmmWarning,
    ModeWarning,
    SingularFitWarning,
    warn,
)
from lmmjax.inference.boundary import SINGULAR_TOL, singular_bars
from lmmjax.inference.identified import Undetermined, describe, undetermined
from lmmjax.modes import CLOSE
from lmmjax.optimize.newton import LARGE_RATIO
from lmmjax.optimize.solution import GRADIENT_TOL, Status

if TYPE_CHECKING:
    from lmmjax.design import Design
    from lmmjax.estimates import Estimates
    from lmmjax.fitting import Fitted

#: Residual standard deviation, relative to the response's, that leaves no curvature to measure.
EXACT = 1e-5
#: The same, that is rounding: the likelihood has no bound there, and the estimates no meaning.
ROUNDING = 1e-7


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


def remainder_message(fit: Estimates) -> str:
    """The random effects leave nothing but rounding: there is no estimate."""
    groups = " and ".join(repr(term.group) for term in fit.design.terms)
    return (
        f"the fixed effects and the effects of {groups} account for the response exactly: sigma is "
        f"below {ROUNDING:.0e} of its spread, which is rounding, and the likelihood has no bound. "
        "Check whether the response was computed from its groups (means, predictions), or repeats "
        "within them"
    )


def exact_message(fit: Estimates, relative: float) -> str:
    """The random effects leave nearly nothing."""
    groups = " and ".join(repr(term.group) for term in fit.design.terms)
    return (
        f"the fixed effects and the effects of {groups} account for the response almost exactly: "
        f"sigma is {relative:.0e} of its spread. Standard errors and degrees of freedom rest on "
        "that remainder: check whether the response was "
        "computed from its groups (means, predictions), or repeats within them"
    )


def undetermined_message(found: tuple[Undetermined, ...]) -> str:
    """Variances that no data on this design could tell, and what of the fit still holds."""
    return (
        f"{describe(found)}. What is shown is one of many equally good choices, without standard "
        "errors; a fixed effect whose own standard error depends on the choice has no degrees of "
        "freedom and no p value. Leave such a term out, or all but one of those that say the same"
    )


def rival_message(fit: Estimates) -> str:
    """Two optima are nearly as good: where both are, and what that means."""
    here, gap = fit.raw.estimate, float(fit.raw.estimate.rival)
    there = replace(fit.raw, estimate=fit.raw.rival, rival=None)
    name = "REML criterion" if fit.reml else "deviance"
    best = float(here.criterion)
    return (
        f"the {name} has two optima that are nearly as good: {best:.2f} at "
        f"{_components(fit, fit.raw)}, which is reported, and {gap:.2f} higher at "
        f"{_components(fit, there)}. The data do not decide between them: look for groups that "
        "are unlike the others (fit.influence), and do not trust intervals from one optimum"
    )


def _components(fit: Estimates, raw: Fitted) -> str:
    """Standard deviations and correlations of a fit's random effects, in words."""
    sigma, said = float(raw.estimate.fixed.sigma), []
    for term, factor in zip(fit.design.terms, raw.factors, strict=True):
        covariance = sigma**2 * factor @ factor.T
        sd = np.sqrt(np.diagonal(covariance))
        said += [
            f"sd {name}|{term.group} {s:.4g}" for name, s in zip(term.columns, sd, strict=True)
        ]
        said += [
            f"cor {term.columns[i]}.{term.columns[j]} {covariance[i, j] / (sd[i] * sd[j]):.2f}"
            for i in range(len(sd))
            for j in range(i)
            if covariance[i, j]
        ]
    return ", ".join([*said, f"residual sd {sigma:.4g}"])


def fit_messages(fit: Estimates) -> list[tuple[type[LmmWarning], str]]:
    """Everything that is wrong with a fit, worst first."""
    out: list[tuple[type[LmmWarning], str]] = []
    estimate = fit.raw.estimate
    stopped = int(estimate.solution.status) != Status.CONVERGED
    bars = singular_bars(fit.raw)
    dropped = int(estimate.fixed.dropped)
    # A design without a flat direction shows in the curvature: only then is it looked at.
    found = undetermined(fit.design, fit.raw.prepared) if stopped or bars or dropped else ()
    if found:
        out.append((DesignWarning, undetermined_message(found)))
    if stopped:
        out.append((ConvergenceWarning, status_message(fit)))
    if bars:
        out.append((SingularFitWarning, singular_message(fit, bars)))
    if fit.raw.rival is not None and float(estimate.rival) <= CLOSE:
        out.append((ModeWarning, rival_message(fit)))
    relative = 1.0
    ratios = estimate.solution.theta.tolist()
    if dropped or max(map(abs, ratios), default=0.0) > LARGE_RATIO:
        relative = float(estimate.fixed.sigma) / float(np.std(fit.design.y))
    if not found and relative < ROUNDING:
        raise DataError(remainder_message(fit))
    if not found and relative < EXACT:
        out.append((DesignWarning, exact_message(fit, relative)))
    elif not found and dropped:
        out.append((ConvergenceWarning, dropped_message(dropped)))
    return out


def warn_about(fit: Estimates) -> None:
    """Warn of everything that is wrong with a fit."""
    for category, text in fit.problems:
        warn(text, category)


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
