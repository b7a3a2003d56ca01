"""Prepared design + response -> Fitted: runs the estimate on the host's behalf, in 64 bits.

The border between arrays and the front end: below, pure functions of JAX arrays; above, NumPy
arrays in the units of the data.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from lmmjax.compiled import Kernel
from lmmjax.covariance import Covariance, Diagonal, Unstructured, canonical_factor
from lmmjax.errors import LmmError
from lmmjax.estimate import (
    Estimate,
    estimate,
    estimate_at,
    estimate_large,
    estimate_response,
    value_and_gradient,
)
from lmmjax.likelihood import jacobi, smallblock
from lmmjax.likelihood.arguments import check_structures
from lmmjax.likelihood.crossed import Crossed
from lmmjax.likelihood.crossproducts import (
    CrossProducts,
    Prepared,
    cross_products,
    is_moments_alone,
    level_sums,
)
from lmmjax.likelihood.moments import MomentBlocks
from lmmjax.likelihood.posterior import Posterior, posterior
from lmmjax.likelihood.preparation import analyse, default_structures
from lmmjax.modes import screen_of, seek
from lmmjax.optimize.external import check_optimizer, minimize
from lmmjax.optimize.solution import Status
from lmmjax.precision import double_precision

#: Remaining effects of a crossed design from which on an approach in mixed precision pays.
LARGE = 256
#: Moments, and rows, up to which a fit is one kernel.
MANY_MOMENTS, MANY_ROWS = 500, 10_000


@dataclass(frozen=True)
class Fitted:
    """One fit, all arrays NumPy and in the units of the data unless said otherwise.

    Attributes
    ----------
    prepared : Prepared
    y : ndarray, shape (n,)
    reml : bool
    optimizer : str
    estimate : Estimate
        Its ``solution`` is in standardised search parameters.
    rival : Estimate or None
        The next best optimum, where one was found (:mod:`lmmjax.modes`).
    """

    prepared: Prepared
    y: np.ndarray
    reml: bool
    optimizer: str
    estimate: Estimate
    rival: Estimate | None = None

    @cached_property
    def data(self) -> CrossProducts:
        """Cross-products of the response, on the host."""
        return cross_products(self.prepared, self.y)

    @cached_property
    def _bars(self) -> list[tuple[Covariance, np.ndarray]]:
        """Structure of each bar, and a square root of its relative covariance.

        In the data's columns.
        """
        out = []
        for bars, factor, transform in zip(
            self.prepared.structures, self.estimate.factors, self.prepared.transforms, strict=True
        ):
            root = np.linalg.solve(transform, factor)
            at = 0
            for structure in bars:
                own = slice(at, at + structure.size)
                out.append((structure, root[own, own]))
                at += structure.size
        return out

    @cached_property
    def theta(self) -> np.ndarray:
        """Relative covariance parameters, shape (n_theta,), in lme4's order and units."""
        parts, at = [], 0
        for structure, root in self._bars:
            own = self.estimate.solution.theta[at : at + structure.n_theta]
            at += structure.n_theta
            # A family that standardised columns would change was searched in its own parameters.
            keep = structure.equivariance == "none"
            parts.append(np.asarray(own) if keep else structure.from_factor(root))
        return np.concatenate(parts)

    @cached_property
    def factors(self) -> tuple[np.ndarray, ...]:
        """``Lambda`` of each term, lower-triangular, shape (k_t, k_t)."""
        roots = iter(self._bars)
        out = []
        for bars, transform in zip(self.prepared.structures, self.prepared.transforms, strict=True):
            factor, at = np.zeros(transform.shape), 0
            for _ in bars:
                _, root = next(roots)
                own = slice(at, at + root.shape[0])
                factor[own, own] = canonical_factor(root)
                at += root.shape[0]
            out.append(factor)
        return tuple(out)

    @cached_property
    def posterior(self) -> Posterior:
        """Conditional distribution of the random effects, in standardised columns."""
        factors = [np.asarray(factor) for factor in self.estimate.factors]
        return posterior(self.prepared, self.data, self.y, factors)

    @cached_property
    def modes(self) -> tuple[np.ndarray, ...]:
        """Conditional modes of each term's effects, each of shape (L_t, k_t)."""
        scale = float(self.data.scale)
        return tuple(
            scale * np.linalg.solve(transform, modes.T).T
            for modes, transform in zip(self.posterior.modes, self.data.transforms, strict=True)
        )

    def conditional_covariances(self, term: int) -> np.ndarray:
        """Conditional covariance of each level's effects (lme4's postVar), shape (L, k, k)."""
        back = np.linalg.inv(self.data.transforms[term])
        sigma2 = float(self.estimate.fixed.sigma) ** 2
        return sigma2 * back @ self.posterior.conditional_covariances(term) @ back.T

    def linear_variances(
        self,
        X: np.ndarray,
        Z: Sequence[np.ndarray],
        levels: Sequence[np.ndarray],
        *,
        fixed_uncertain: bool = True,
    ) -> np.ndarray:
        """Variance of ``x'beta + sum_t z_t'b_t`` for each row.

        From the joint covariance of ``(b - b_hat, beta_hat)``.

        Parameters
        ----------
        X : ndarray, shape (m, p)
        Z : sequence of ndarray, each (m, k_t)
            Zero rows leave a term out.
        levels : sequence of ndarray of int, each (m,)
            -1 for a level that the data do not have: its effects keep their prior variance.
        fixed_uncertain : bool
            False leaves beta's own uncertainty out.

        Returns
        -------
        ndarray, shape (m,)
        """
        rows = [
            np.linalg.solve(t.T, np.asarray(z, np.float64).T).T
            for z, t in zip(Z, self.data.transforms, strict=True)
        ]
        factor = np.asarray(self.data.fixed_factor)
        fixed = np.linalg.solve(factor.T, X.T).T if factor.size else np.asarray(X, np.float64)
        variances = self.posterior.variances(
            rows, list(levels), fixed, fixed_uncertain=fixed_uncertain
        )
        return float(self.estimate.fixed.sigma) ** 2 * variances


def _one_kernel(data: CrossProducts | Prepared, *_: Any) -> bool:
    """Whether a fit is small enough to be one kernel of the processor."""
    engine = data.elimination if isinstance(data, CrossProducts) else data.template
    if not isinstance(engine, MomentBlocks) or engine.rest_levels:
        return False
    if isinstance(data, Prepared) and not (data.own_groups.in_order and data.n_rows <= MANY_ROWS):
        return False
    # Gathers and loops over columns cannot be part of one kernel: up to this size there are none.
    p = (data.basis.q if isinstance(data, Prepared) else data.fixed_factor).shape[1]
    return (
        engine.moments.size <= MANY_MOMENTS
        and data.n_theta < jacobi.UNROLL
        and p <= smallblock.UNROLL
        and all(type(s) in (Unstructured, Diagonal) for bars in data.structures for s in bars)
    )


fit_data = Kernel(estimate, _one_kernel)
#: What other minimisers are given, by REML or not: always the same objects.
_CRITERIA = {reml: partial(value_and_gradient, reml=reml) for reml in (False, True)}
_estimate_response = Kernel(estimate_response, _one_kernel)
_estimate_at = Kernel(estimate_at)
_estimate_large = Kernel(estimate_large)


def prepare_design(design: Any, structures: Sequence[Any] | None = None) -> Prepared:
    """Ready a :class:`~lmmjax.design.Design` for its cross-products.

    Parameters
    ----------
    design : Design
    structures : sequence of tuple of Covariance, optional
        Per term, its bars' structures; by default what lme4 fits.

    Returns
    -------
    Prepared
        Host arrays in float64, for :func:`lmmjax.cross_products`.

    Raises
    ------
    LmmError
        Crossed factors leave more random effects than a dense matrix can hold.

    Examples
    --------
    >>> import lmmjax as lj
    >>> design = lj.build_design("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
    >>> prepared = lj.prepare_design(design)
    >>> int(prepared.n_obs), prepared.levels, prepared.n_theta
    (30, (6,), 1)
    """
    if structures is None:
        structures = [default_structures(term.blocks) for term in design.terms]
    if len(structures) != len(design.terms):
        raise LmmError(
            f"structures has {len(structures)} entries; the design has {len(design.terms)} terms"
        )
    for term, bars in zip(design.terms, structures, strict=True):
        check_structures(f"the structure of {term.group!r}", bars, len(term.columns))
    return analyse(
        design.X,
        [(term.Z, term.index, len(term.levels)) for term in design.terms],
        structures,
        weights=design.weights,
        offset=design.offset,
    )


def fit_response(
    prepared: Prepared, y: np.ndarray, *, reml: bool = True, optimizer: Any = "newton"
) -> Fitted:
    """Fit a response on a prepared design.

    Parameters
    ----------
    prepared : Prepared
    y : ndarray, shape (n,)
    reml : bool
    optimizer : str or optax.GradientTransformation
        ``"newton"`` (exact Hessian), ``"lbfgs"``, ``"scipy:METHOD"``, or any optax transformation.

    Returns
    -------
    Fitted

    Raises
    ------
    LmmError
        The optimizer is not known.
    """
    check_optimizer(optimizer)
    y = np.asarray(y, np.float64)
    data = cross_products(prepared, y)
    if optimizer == "newton":
        fit = partial(_estimate_large if _is_large(data) else fit_data, reml=reml)
        best, rival = _best(fit(data), prepared, data, fit)
        return Fitted(prepared, y, reml, "newton", best, rival)
    fit = partial(_fit_externally, optimizer, reml=reml)
    best, rival = fit(data), None
    # One that has run out of iterations already is not given as many again.
    if int(best.solution.status) == Status.CONVERGED:
        best, rival = _best(best, prepared, data, fit)
    name = optimizer if isinstance(optimizer, str) else "optax"
    return Fitted(prepared, y, reml, name, best, rival)


def _fit_externally(optimizer: Any, data: CrossProducts, *, reml: bool) -> Estimate:
    with double_precision():
        end = minimize(optimizer, _CRITERIA[reml], data.start, (data,))
    return _estimate_at(np.asarray(end.theta), np.int32(end.iterations), data, reml=reml)


def _best(
    first: Estimate,
    prepared: Prepared,
    data: CrossProducts,
    fit: Callable[[CrossProducts], Estimate],
) -> tuple[Estimate, Estimate | None]:
    """Return a first run, or the best of several where it is in doubt; and a rival optimum."""
    if not screen_of(prepared).doubts(first, data.level_sums, data.scale):
        return first, None
    return seek(first, data, fit)


def fit_best(prepared: Prepared, data: CrossProducts, *, reml: bool) -> Estimate:
    """Fit by Newton's method, from other starts too where the first end is in doubt.

    Parameters
    ----------
    prepared : Prepared
    data : CrossProducts
        Of a response on that design.
    reml : bool
    """
    fit = partial(fit_data, reml=reml)
    return _best(fit(data), prepared, data, fit)[0]


def refit_response(fitted: Fitted, y: np.ndarray) -> Fitted:
    """Fit another response, shape (n,), on the same design by Newton's method.

    In one compiled call, except on crossed designs, which may start in 32 bits.
    """
    y = np.asarray(y, np.float64)
    if isinstance(fitted.prepared.template, Crossed):
        return fit_response(fitted.prepared, y, reml=fitted.reml)
    prepared = on_device(fitted.prepared)
    calls = _refits[id(fitted.prepared)]
    if fitted.reml not in calls:
        calls[fitted.reml] = _estimate_response.bind(prepared, y, reml=fitted.reml)
    best, rival = calls[fitted.reml](prepared, y), None
    sums = ((), 1.0) if is_moments_alone(prepared.template) else level_sums(fitted.prepared, y)
    if screen_of(fitted.prepared).doubts(best, *sums):
        fit = partial(fit_data, reml=fitted.reml)
        best, rival = seek(best, cross_products(fitted.prepared, y), fit)
    return Fitted(fitted.prepared, y, fitted.reml, "newton", best, rival)


#: Arrays of prepared designs on the device, by the design's identity, for as long as it lives. Not
#: stored with it: copied or unpickled outside the 64-bit scope, JAX would cut them to 32 bits.
_sent: dict[int, Prepared] = {}
#: What fits their responses, by REML or not.
_refits: dict[int, dict[bool, Callable[..., Estimate]]] = {}


def on_device(prepared: Prepared) -> Prepared:
    """The design's arrays on the device, sent once."""
    key = id(prepared)
    if key not in _sent:
        with double_precision():
            _sent[key] = jax.device_put(prepared)
        _refits[key] = {}
        weakref.finalize(prepared, _sent.pop, key, None)
        weakref.finalize(prepared, _refits.pop, key, None)
    return _sent[key]


def _is_large(data: CrossProducts) -> bool:
    engine = data.elimination
    return isinstance(engine, Crossed) and engine.rest_within.shape[0] >= LARGE
