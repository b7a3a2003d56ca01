"""Prepared design + response -> Fitted: runs the estimate on the host's behalf, in 64 bits.

The border between arrays and the front end: below, pure functions of JAX arrays; above, NumPy arrays in the units of
the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from lmmjax.estimate import Estimate, estimate
from lmmjax.likelihood.crossproducts import (
    CrossProducts,
    Prepared,
    cross_products,
    default_structures,
    lambda_factors,
    prepare,
)
from lmmjax.likelihood.posterior import Posterior, posterior
from lmmjax.precision import double_precision


@dataclass(frozen=True)
class Fitted:
    """One fit, all arrays NumPy and in the units of the data unless said otherwise.

    Attributes
    ----------
    prepared : Prepared
    data : CrossProducts
    y : ndarray, shape (n,)
    reml : bool
    optimizer : str
    estimate : Estimate
        Its ``solution`` is in standardised search parameters.
    """

    prepared: Prepared
    data: CrossProducts
    y: np.ndarray
    reml: bool
    optimizer: str
    estimate: Estimate

    @cached_property
    def standard_factors(self) -> tuple[np.ndarray, ...]:
        """``T Lambda`` of each term (any square root), in standardised columns."""
        with double_precision():
            factors = lambda_factors(
                self.data.search_structures, jax.numpy.asarray(self.estimate.solution.theta)
            )
        return tuple(np.asarray(f) for f in factors)

    @cached_property
    def _bars(self) -> list[tuple[Any, np.ndarray]]:
        out = []
        for bars, factor, transform in zip(
            self.data.structures, self.standard_factors, self.data.transforms, strict=True
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
        with double_precision():
            return tuple(np.asarray(f) for f in self.data.factors(jax.numpy.asarray(self.theta)))

    @cached_property
    def posterior(self) -> Posterior:
        """Conditional distribution of the random effects, in standardised columns."""
        return posterior(self.prepared, self.data, self.y, list(self.standard_factors))

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
        """Variance of ``x'beta + sum_t z_t'b_t`` from the joint covariance of (b - b_hat, beta_hat).

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


_estimate = jax.jit(estimate, static_argnames="reml")


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
    """
    if structures is None:
        structures = [default_structures(term.blocks) for term in design.terms]
    return prepare(
        design.X,
        [(term.Z, term.index, len(term.levels)) for term in design.terms],
        structures,
        weights=design.weights,
        offset=design.offset,
    )


def fit_response(
    prepared: Prepared, y: np.ndarray, *, reml: bool = True, optimizer: str = "newton"
) -> Fitted:
    """Fit a response, shape (n,), on a prepared design."""
    data = cross_products(prepared, np.asarray(y, np.float64))
    with double_precision():
        result = jax.device_get(_estimate(data, reml=reml))
    return Fitted(prepared, data, y, reml, optimizer, result)
