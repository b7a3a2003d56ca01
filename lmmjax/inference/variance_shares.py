"""Whose variance it is: fixed effects, each grouping factor, residual.

A row's variance depends on its predictors where slopes are random; the random-effect variance is
then the mean over the rows, ``trace(Z Sigma Z') / n = trace(Sigma Z'Z / n)`` (Johnson 2014, Methods
Ecol. Evol. 5, 944-946). The fixed effects' variance is that of ``X beta`` over the rows, which is
taken as given: ``beta' S beta``, S the columns' covariance matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from lmmjax.compiled import Kernel
from lmmjax.inference.delta import DeltaEstimate, delta_of, with_jacobian
from lmmjax.inference.parameters import ModelParameters, model_parameters

if TYPE_CHECKING:
    from lmmjax.estimates import Estimates


class Moments(NamedTuple):
    """Second moments of the design's columns over the rows.

    Attributes
    ----------
    fixed : Array, shape (p, p)
        Covariance matrix of X's columns.
    random : tuple of Array, each (k_t, k_t)
        ``Z'Z / n`` of each term.
    """

    fixed: Any
    random: tuple[Any, ...]


class Shares(NamedTuple):
    """Variances of a row, and the shares of them; arrays, or standard errors in the same form.

    Attributes
    ----------
    random : (T,) variance of each grouping factor's contribution
    fixed : variance of the fixed part
    residual : sigma squared
    adjusted : random over random plus residual
    conditional : random over all
    by_group : (T,) each grouping factor's variance over random plus residual
    by_group_of_all : (T,) the same, over all
    r2_marginal : fixed over all
    r2_conditional : fixed plus random over all
    """

    random: Any
    fixed: Any
    residual: Any
    adjusted: Any
    conditional: Any
    by_group: Any
    by_group_of_all: Any
    r2_marginal: Any
    r2_conditional: Any


#: Symmetric intervals of variances are on the log scale, those of shares on the logit scale.
VARIANCES = ("random", "fixed", "residual")


def moments(fit: Estimates) -> Moments:
    """Second moments of a fit's design."""
    X = fit.design.X - fit.design.X.mean(axis=0)
    n = fit.design.n
    return Moments(X.T @ X / (n - 1), tuple(t.Z.T @ t.Z / n for t in fit.design.terms))


def shares(p: ModelParameters, design: Moments) -> Shares:
    """All shares of variance, as functions of the parameters."""
    pairs = zip(p.covariances, design.random, strict=True)
    random = jnp.stack([jnp.sum(cov * second) for cov, second in pairs])
    fixed = p.beta @ design.fixed @ p.beta
    residual = p.sigma**2
    between = jnp.sum(random)
    total = between + residual + fixed
    return Shares(
        random=random,
        fixed=fixed,
        residual=residual,
        adjusted=between / (between + residual),
        conditional=between / total,
        by_group=random / (between + residual),
        by_group_of_all=random / total,
        r2_marginal=fixed / total,
        r2_conditional=(fixed + between) / total,
    )


_shares = Kernel(with_jacobian(shares))


def variance_shares(fit: Estimates, level: float = 0.95) -> DeltaEstimate:
    """Shares with standard errors and intervals; rows named as the fields of :class:`Shares`."""
    terms = len(fit.design.terms)
    scales = [
        "log" if name in VARIANCES else "logit"
        for name in Shares._fields
        for _ in range(terms if name in ("random", "by_group", "by_group_of_all") else 1)
    ]
    values, jacobian = _shares(model_parameters(fit), moments(fit))
    return delta_of(fit, values, jacobian, level, scales)


def rows(found: DeltaEstimate, names: list[str], labels: list[str]) -> Any:
    """The frame's rows of those names, under other labels."""
    return found.frame.loc[names].set_axis(labels)


def mean_sizes(fit: Estimates) -> dict[str, tuple[float, float]]:
    """Of each grouping factor the mean number of rows a level, plain and weighted by itself."""
    out = {}
    for term in fit.design.terms:
        count = np.bincount(term.index, minlength=len(term.levels)).astype(np.float64)
        count = count[count > 0]
        out[term.group] = (float(count.mean()), float(count @ count / count.sum()))
    return out
