"""Design arrays -> CrossProducts: everything the likelihood needs that does not depend on theta.

Two steps. :func:`prepare` looks at the design alone (which factor to eliminate, standardised
columns, group patterns); :func:`cross_products` adds a response. A new response on the same design
repeats only the second, which is linear in y and differentiable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from lmmjax.covariance import (
    Covariance,
    block_diagonal,
    relative_factor,
)
from lmmjax.likelihood.arguments import check_is, compiled, response_of
from lmmjax.likelihood.crossed import Crossed
from lmmjax.likelihood.moments import MomentBlocks, pair_indices
from lmmjax.likelihood.nested import Nested
from lmmjax.likelihood.products import matmul
from lmmjax.likelihood.pytree import register, static
from lmmjax.likelihood.rowgroups import RowGroups
from lmmjax.likelihood.segments import group_gram, namespace, segment_sum
from lmmjax.likelihood.standardize import (
    FixedBasis,
    ResponseScale,
    scale_response,
)
from lmmjax.likelihood.start import MomentEquations, moment_start

Elimination = MomentBlocks | Nested | Crossed


def search_forms(
    structures: Sequence[tuple[Covariance, ...]],
) -> tuple[tuple[Covariance, ...], ...]:
    """Per term, per bar, the structures in the parameters that a minimiser works in."""
    return tuple(tuple(s.search_form() for s in bars) for bars in structures)


class Structured:
    """What follows from the covariance structures alone."""

    structures: tuple[tuple[Covariance, ...], ...]

    @property
    def n_theta(self) -> int:
        """Number of covariance parameters."""
        return sum(s.n_theta for bars in self.structures for s in bars)

    @cached_property
    def search_structures(self) -> tuple[tuple[Covariance, ...], ...]:
        """The structures in the parameters that a minimiser works in."""
        return search_forms(self.structures)


@register
@dataclass(frozen=True)
class CrossProducts(Structured):
    """Sufficient statistics of one data set for every theta.

    Attributes
    ----------
    elimination : MomentBlocks or Nested or Crossed
        The cross-products, in the layout of the elimination that suits the grouping structure.
    fixed_factor : Array, shape (p, p)
        ``R`` of the weighted X: ``beta = beta_ols + scale R^-1 (coefficients on the orthonormal
        basis)``.
    fixed_inverse : Array, shape (p, p)
        ``R^-1``.
    beta_ols : Array, shape (p,)
    scale : Array, scalar
        Length of the least-squares residual.
    transforms : tuple of Array, each (k_t, k_t)
        ``T`` of each term: standardised Lambda is ``T Lambda``.
    sum_log_weights : Array, scalar
    start : Array, shape (n_theta,)
        Search parameters to start from.
    n_obs : Array, scalar
        Number of rows: a leaf, so that fits of different sizes share what is compiled.
    level_sums : tuple of Array, each (k_t, L_t)
        ``Z_tj'r`` of the unit-length least-squares residual r; empty where the elimination's
        moments tell the same (one factor).
    structures : tuple of tuple of Covariance
        Per term, per bar.

    Examples
    --------
    >>> import lmmjax as lj
    >>> design = lj.build_design("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
    >>> data = lj.cross_products(lj.prepare_design(design), design.y)
    >>> data.n_theta, data.n_fixed, data.beta_ols.round(4)
    (1, 1, array([1527.5]))
    """

    elimination: Elimination
    fixed_factor: Any
    fixed_inverse: Any
    beta_ols: Any
    scale: Any
    transforms: tuple[Any, ...]
    sum_log_weights: Any
    start: Any
    n_obs: Any
    level_sums: tuple[Any, ...]
    structures: tuple[tuple[Covariance, ...], ...]

    @property
    def n_fixed(self) -> int:
        """Number of fixed effects ``p``."""
        return self.fixed_factor.shape[0]

    def factors(self, theta: Array) -> tuple[Array, ...]:
        """``Lambda`` of every term, in the columns' own units, from theta (lme4's order)."""
        return lambda_factors(self.structures, theta)

    def standard_factors(self, theta: Array) -> tuple[Array, ...]:
        """``T Lambda`` of every term: what the elimination works with."""
        return tuple(
            jnp.asarray(t, theta.dtype) @ f
            for t, f in zip(self.transforms, self.factors(theta), strict=True)
        )


def lambda_factors(
    structures: tuple[tuple[Covariance, ...], ...], theta: Array
) -> tuple[Array, ...]:
    """``Lambda`` of each term, given the structures of its bars and all of theta."""
    out, at = [], 0
    for bars in structures:
        blocks = []
        for structure in bars:
            blocks.append(relative_factor(structure, theta[at : at + structure.n_theta]))
            at += structure.n_theta
        out.append(block_diagonal(blocks))
    return tuple(out)


@register
@dataclass(frozen=True)
class Prepared(Structured):
    """A design made ready: all that the cross-products need but the response.

    Attributes
    ----------
    basis : FixedBasis
    root_weights, offset : Array, shape (n,)
    own_rows : Array, shape (n, k)
        Orthonormal rows ``Q`` of the eliminated factor, group by group.
    own_groups : RowGroups
        Which group each row is in.
    within_rows : Array, shape (n, d + p)
        What the eliminated factor's columns leave of the standardised columns that are kept dense
        (ancestors in the chain, then small crossed terms), and of the basis of X.
    parent_index : Array or None
        Second factor of the chain, per row.
    term_rows, term_index : tuples of Array
        Standardised columns and levels of every term.
    equations : MomentEquations
        For the start.
    template : MomentBlocks or Nested or Crossed
        The elimination with the response's column empty.
    columns : Array, shape (k, w - 1, L)
        ``c_j`` of all columns but the response (not used by a crossed design's sparse part).
    patterns : RowGroups or None
        Which distinct design each group has.
    level_root : Array or None, shape (k, k, L)
        With one term: ``R_j``, ``Z_j = Q_j R_j``.
    within_df : scalar
        Degrees of freedom of the rows within the finest groups.
    transforms, sum_log_weights, structures, n_obs
        As in :class:`CrossProducts`; ``n_obs`` counts the rows of positive weight.
    levels : tuple of int
        Number of levels of each term.

    Examples
    --------
    >>> import lmmjax as lj
    >>> design = lj.build_design("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
    >>> prepared = lj.prepare_design(design)
    >>> int(prepared.n_obs), prepared.levels, prepared.n_theta
    (30, (6,), 1)
    """

    basis: FixedBasis
    root_weights: Any
    offset: Any
    own_rows: Any
    own_groups: RowGroups
    within_rows: Any
    parent_index: Any
    term_rows: tuple[Any, ...]
    term_index: tuple[Any, ...]
    equations: MomentEquations
    template: Elimination
    columns: Any
    patterns: RowGroups | None
    level_root: Any
    transforms: tuple[Any, ...]
    sum_log_weights: Any
    within_df: Any
    structures: tuple[tuple[Covariance, ...], ...]
    n_obs: Any
    levels: tuple[int, ...] = static()

    @property
    def n_fixed(self) -> int:
        """Number of fixed effects ``p``."""
        return self.basis.factor.shape[0]

    @property
    def n_rows(self) -> int:
        """Number of rows, those of weight zero among them."""
        return self.root_weights.shape[0]


def pattern_moments(left: Any, right: Any, patterns: RowGroups) -> Any:
    """Sums of ``c_ja c_jb`` over the groups of each pattern, packed for :class:`MomentBlocks`.

    ``left`` has shape (k, w, L) and ``right`` (k, v, L); result shape (pairs * D, w, v).
    """
    xp = namespace(left, right)
    blocks = []
    for a, b in zip(*pair_indices(left.shape[0]), strict=True):
        products = left[a][:, None] * right[b][None, :]
        if a != b:  # K_ab and K_ba
            products = products + left[b][:, None] * right[a][None, :]
        shape = products.shape[:2]
        total = patterns.sum_last(products.reshape(-1, products.shape[-1]))
        blocks.append(total.T.reshape(patterns.count, *shape))
    return xp.concatenate(blocks)


def cross_products(prepared: Prepared, y: Any) -> CrossProducts:
    """Add a response, shape (n,), to a prepared design.

    With NumPy input it runs on the host; with JAX arrays it is pure, differentiable in ``y`` and
    can be ``vmap``-ed over it.

    Parameters
    ----------
    prepared : Prepared
        From :func:`lmmjax.prepare_design`.
    y : ndarray or Array, shape (n,)

    Returns
    -------
    CrossProducts
        What the likelihood takes.

    Raises
    ------
    DataError
        The response has another shape than the design's rows, or (NumPy input only: a trace cannot
        look) is not finite or an exact linear function of the fixed effects.

    Examples
    --------
    >>> import lmmjax as lj
    >>> design = lj.build_design("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
    >>> data = lj.cross_products(lj.prepare_design(design), design.y)
    >>> float(data.n_obs), float(data.scale.round(3))
    (30.0, 339.393)
    """
    check_is("prepared", prepared, Prepared, "lj.prepare_design")
    y = response_of(y, prepared.n_rows)
    return _cross_products(prepared, y) if namespace(y) is np else _compiled(prepared, y)


def _cross_products(prepared: Prepared, y: Any) -> CrossProducts:
    xp = namespace(y)
    scale, residual, c_y = group_response(prepared, y)
    template = prepared.template
    inner = within_groups(prepared, residual, c_y)
    corner = xp.sum(inner * inner)
    # Of both factors the part within groups: where a column has none, as X among random slopes, the
    # product is then zero, and not rounding beside which variances of 1e-8 cannot be seen.
    within_rows = prepared.within_rows
    if isinstance(template, Crossed):
        first = within_rows.shape[1] - prepared.basis.q.shape[1]
        fixed_inner = matmul(inner, within_rows[:, first:])
        elimination = _crossed_response(prepared, template, c_y, inner, fixed_inner, corner)
    else:
        if prepared.parent_index is None:
            column = matmul(inner, within_rows)[:, None]
            corner = corner[None, None]
        else:
            tops = template.within.shape[-1]
            column = group_gram(within_rows, inner[:, None], prepared.parent_index, tops)[:, 0]
            corner = segment_sum(inner * inner, prepared.parent_index, tops)[None]
        column = xp.concatenate([column, corner])
        if isinstance(template, MomentBlocks):
            assert prepared.patterns is not None
            c = xp.concatenate([xp.asarray(prepared.columns), c_y[:, None]], axis=1)
            moments = pattern_moments(c, c_y[:, None], prepared.patterns)[..., 0]
            known = template.moments.reshape(*moments.shape, -1)
            elimination = replace(
                template,
                within=_border(template.within, column[:, 0]),
                moments=_border(known, moments).reshape(template.moments.shape),
            )
        else:
            last = template.columns.shape[1] - 1
            elimination = replace(
                template,
                columns=_put(template.columns, np.s_[:, last], c_y),
                within=xp.moveaxis(
                    _border(xp.moveaxis(xp.asarray(template.within), -1, 0), column.T), 0, -1
                ),
            )
    sums = _level_sums(prepared, residual, c_y)
    return CrossProducts(
        elimination=elimination,
        fixed_factor=prepared.basis.factor,
        fixed_inverse=prepared.basis.inverse,
        beta_ols=scale.beta_ols,
        scale=scale.scale,
        transforms=prepared.transforms,
        sum_log_weights=prepared.sum_log_weights,
        start=_start(prepared, sums, xp.sum(inner * inner)),
        n_obs=xp.asarray(prepared.n_obs, residual.dtype),
        level_sums=() if is_moments_alone(template) else tuple(sums),
        structures=prepared.structures,
    )


_compiled = compiled()(_cross_products)


def group_response(prepared: Prepared, y: Any) -> tuple[ResponseScale, Any, Any]:
    """Scale and unit residual of a response, shape (n,), and its ``c_j`` by group, (k, L)."""
    xp = namespace(y)
    scale, residual = scale_response(prepared.basis, prepared.root_weights * (y - prepared.offset))
    q = prepared.own_rows
    parts = [prepared.own_groups.sum(q[:, a] * residual) for a in range(q.shape[1])]
    return scale, residual, xp.stack(parts)


def within_groups(prepared: Prepared, residual: Any, c_y: Any) -> Any:
    """What the eliminated factor's columns leave of a residual, shape (n,)."""
    q, spread = prepared.own_rows, prepared.own_groups.spread
    return residual - sum(q[:, a] * spread(c_y[a]) for a in range(q.shape[1]))


def is_moments_alone(elimination: Elimination) -> bool:
    """Whether second moments by pattern of one factor hold all of the data."""
    return isinstance(elimination, MomentBlocks) and not elimination.rest_levels


def _start(prepared: Prepared, sums: list[Any], corner: Any) -> Any:
    """Moment start of all terms.

    The residual variance is that of what is left within the finest groups.
    """
    xp = namespace(corner)
    n = xp.asarray(prepared.n_obs, corner.dtype)
    # Never far below the total: with few rows per group, what is left within them says little.
    variance = xp.maximum(corner / prepared.within_df, 0.02 / n)
    return moment_start(
        prepared.equations,
        prepared.search_structures,
        sums,
        n,
        variance,
    )


def _level_sums(prepared: Prepared, residual: Any, c_y: Any) -> list[Any]:
    """``Z_tj'r`` of every level of every term, shape (k_t, L_t) each."""
    xp = namespace(residual)
    if prepared.level_root is not None:  # R_j'(Q_j'r), without the rows
        return [xp.sum(prepared.level_root * c_y[:, None], axis=0)]
    return [
        xp.stack([segment_sum(z[:, a] * residual, index, count) for a in range(z.shape[1])])
        for z, index, count in zip(
            prepared.term_rows, prepared.term_index, prepared.levels, strict=True
        )
    ]


def level_sums(prepared: Prepared, y: Any) -> tuple[tuple[Any, ...], Any]:
    """Return what :class:`CrossProducts` has as ``level_sums`` and ``scale``, without the rest."""
    scale, residual, c_y = group_response(prepared, y)
    return tuple(_level_sums(prepared, residual, c_y)), scale.scale


def _put(array: Any, where: Any, values: Any) -> Any:
    """``array`` with ``array[where] = values``, in NumPy or JAX."""
    if namespace(values) is np:
        out = np.array(array)
        out[where] = values
        return out
    return jnp.asarray(array).at[where].set(values)


def _border(matrices: Any, column: Any) -> Any:
    """Symmetric matrices, shape (..., w, w), with zeros in the last row and column filled in."""
    xp = namespace(column)
    w = column.shape[-1]
    last = np.zeros(w)
    last[-1] = 1.0
    inner = column * (1.0 - last)
    # Added, not set: an addition fuses, and is one operation for a batch.
    return xp.asarray(matrices) + column[..., :, None] * last + last[:, None] * inner[..., None, :]


def _crossed_response(
    prepared: Prepared, template: Crossed, c_y: Any, inner: Any, fixed_inner: Any, corner: Any
) -> Crossed:
    xp = namespace(inner)
    parts = []
    for t in template.order[1:]:
        rows, index, count = prepared.term_rows[t], prepared.term_index[t], prepared.levels[t]
        sums = [segment_sum(rows[:, b] * inner, index, count) for b in range(rows.shape[1])]
        parts.append(xp.stack(sums, axis=1).reshape(-1))
    last = template.columns.shape[1] - 1
    column = xp.concatenate([fixed_inner, corner[None]])
    return replace(
        template,
        columns=_put(template.columns, np.s_[:, last], c_y),
        cross_within=_put(template.cross_within, np.s_[:, last], xp.concatenate(parts)),
        within=_border(template.within, column),
    )
