"""The sufficient statistics of a simulated data set, without its rows.

Groups whose design rows are alike form a pattern. In group j of a pattern,
``g_j = Q_j'v_j ~ N(0, S)`` with ``S = R Sigma R' + sigma² I``, where ``v = Z b + e`` is the random
part of the response and ``Z_j = Q_j R``; what is left of ``v`` within the groups is
``sigma² (I - QQ')``. The likelihood sees the ``g_j`` only through

- linear functions ``sum_j c_j (x) g_j`` with the fixed effects' ``c_j``: Gaussian, and
- the squares ``sum_j g_j g_j'``: those in the span of the ``c_j``, and an independent Wishart
  matrix with the remaining degrees of freedom, by Bartlett's decomposition;

and the rest through Gaussian linear functions and a chi-squared remainder. All of it is exact in
distribution, and costs the same for fifty groups or five thousand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lmmjax.errors import LmmError
from lmmjax.likelihood import plan as planning
from lmmjax.likelihood.crossproducts import CrossProducts, Prepared, cross_products
from lmmjax.likelihood.moments import MomentBlocks, pair_indices
from lmmjax.likelihood.pytree import register
from lmmjax.likelihood.start import MomentEquations, term_start, unknowns_of
from lmmjax.simulation.normals import chi_squared, standard_normals

if TYPE_CHECKING:
    from lmmjax.simulation.parameters import TrueParameters

#: Singular values below this share of the largest count as zero.
RANK_TOL = 1e-10


@register
@dataclass(frozen=True, eq=False)
class StatisticsSampler:
    """What of a design the distribution of its statistics depends on; D patterns of groups.

    Made by :func:`statistics_sampler`.

    Attributes
    ----------
    data : CrossProducts
        Of some response: what does not depend on the response is taken from here.
    root : Array, shape (k, k, D)
        ``R`` of each pattern.
    active : Array, shape (k, D)
        1 where a group's column is not a combination of the others, else 0.
    transform : Array, shape (k, k)
        ``T``, from the data's columns to the standardised ones.
    span : Array, shape (D, r, k, p)
        ``M`` with ``C = V M``: ``C`` holds the pattern's ``c_j`` (groups by k p) and ``V`` is an
        orthonormal basis of its columns.
    in_span : Array, shape (D, r)
        1 for the columns of ``V`` that there are, else 0.
    wishart_df : Array, shape (D,)
        Groups less the rank of ``C``.
    chi_df, chi_place : Array, shape (c,)
        Degrees of freedom of Bartlett's diagonals that are not zero, and their places among D k;
        filled up with zeros that have no place there.
    within_root : Array, shape (p, s)
        ``F`` with ``F F'`` the fixed effects' Gram matrix within groups.
    within_df : Array, scalar
        Of the rows within groups, beside the groups' and the fixed effects' columns.
    fixed_moments : Array, shape (pairs, D, p, p)
        Sums of ``c_j (x) c_j``, packed as in :class:`~lmmjax.likelihood.moments.MomentBlocks`.
    start_map : Array, shape (pairs * D, k * k)
        From the packed squares to the weighted squares of the levels' sums.
    equations : MomentEquations
    start_df : Array, scalar
        Of the residual variance that the moment start divides by.
    """

    data: CrossProducts
    root: Any
    active: Any
    transform: Any
    span: Any
    in_span: Any
    wishart_df: Any
    chi_df: Any
    chi_place: Any
    within_root: Any
    within_df: Any
    fixed_moments: Any
    start_map: Any
    equations: MomentEquations
    start_df: Any


class ResponseStatistics(NamedTuple):
    """The part of :class:`~lmmjax.CrossProducts` that a response adds, for a single factor.

    Attributes
    ----------
    cross : Array, shape (pairs, D, p)
        Packed sums of ``c_j (x) c_yj`` with the unit residual's ``c_yj``.
    squares : Array, shape (pairs, D)
        Packed sums of ``c_yj (x) c_yj``.
    fixed_within : Array, shape (p,)
        Products of the fixed effects' and the residual's parts within groups.
    corner : Array, scalar
        Squared length of the residual's part within groups.
    scale : Array, scalar
    beta_ols : Array, shape (p,)
    start : Array, shape (n_theta,)
    """

    cross: Array
    squares: Array
    fixed_within: Array
    corner: Array
    scale: Array
    beta_ols: Array
    start: Array


def statistics_sampler(prepared: Prepared) -> StatisticsSampler:
    """Ready a design for the simulation of its statistics; on the host.

    Parameters
    ----------
    prepared : Prepared
        From :func:`lmmjax.prepare_design`.

    Returns
    -------
    StatisticsSampler

    Raises
    ------
    LmmError
        If the design has more than one grouping factor, or so many different groups that their
        moments are not kept: simulate its rows instead.

    Examples
    --------
    >>> import lmmjax as lj
    >>> frame = lj.simulate_design({"id": 5000}, within={"time": range(5)})
    >>> design = lj.Design.from_formula("~ time + (time | id)", frame)
    >>> sampler = statistics_sampler(lj.prepare_design(design))
    >>> sampler.wishart_df.tolist(), float(sampler.within_df)
    ([4999.0], 15000.0)
    """
    template = prepared.template
    if len(prepared.levels) != 1 or not isinstance(template, MomentBlocks):
        raise LmmError(
            "statistics can be simulated without rows for one grouping factor whose groups share "
            "few designs; for this design simulate rows (simulate_responses)"
        )
    rows, index, levels = prepared.term_rows[0], prepared.term_index[0], prepared.levels[0]
    plan = planning.choose([index], [levels], [rows.shape[1]])
    pattern, chosen, count = planning.patterns(plan, prepared.level_root)
    k, _, D = template.root.shape
    c = np.asarray(prepared.columns)
    p = c.shape[1]
    roots, ranks = _spans(c, pattern, D)
    # Ranks and counts are rounded up to powers of two, as patterns are: designs of similar size
    # share what is compiled.
    r = _bucket(max(int(ranks.max(initial=0)), 1))
    span = np.zeros((D, r, k * p))
    for d, root in enumerate(roots):
        span[d, : root.shape[0]] = root
    wishart_df = np.zeros(D)
    wishart_df[: count.size] = count - ranks[: count.size]
    diagonal_df = np.maximum(wishart_df[:, None] - np.arange(k), 0.0).reshape(-1)
    chi_place = np.flatnonzero(diagonal_df)
    fill = _bucket(chi_place.size) - chi_place.size
    p_within = np.asarray(template.within)[:p, :p]
    values, vectors = np.linalg.eigh(p_within)
    kept = values > 1e-12
    active = np.stack([template.root[a, a] != 0 for a in range(k)]).astype(np.float64)
    n_active = np.sum(active[:, pattern])
    # Of any response: this one is not a combination of the fixed effects.
    some = np.random.default_rng(0).standard_normal(prepared.n_rows)
    data = cross_products(prepared, some)
    elimination = data.elimination
    assert isinstance(elimination, MomentBlocks)
    pairs = k * (k + 1) // 2
    moments = np.asarray(elimination.moments).reshape(pairs, D, p + 1, p + 1)
    weights = np.zeros(D)
    weights[: count.size] = np.asarray(prepared.equations.level_weights[0])[chosen]
    return StatisticsSampler(
        data=data,
        root=template.root,
        active=active,
        transform=prepared.transforms[0],
        span=span.reshape(D, r, k, p),
        in_span=(np.arange(r) < ranks[:, None]).astype(np.float64),
        wishart_df=wishart_df,
        chi_df=np.pad(diagonal_df[chi_place], (0, fill)),
        chi_place=np.pad(chi_place, (0, fill), constant_values=D * k).astype(np.int32),
        within_root=vectors[:, kept] * np.sqrt(values[kept]),
        within_df=np.asarray(float(prepared.n_obs - n_active - np.count_nonzero(kept))),
        fixed_moments=moments[..., :p, :p],
        start_map=_start_map(template.root, weights),
        # Without the levels' weights: start_map holds them, and their number is the levels'.
        equations=replace(prepared.equations, level_weights=()),
        start_df=np.asarray(float(prepared.within_df)),
    )


def _bucket(count: int) -> int:
    """The next power of two; 0 stays."""
    return 1 << (count - 1).bit_length() if count else 0


def _spans(c: np.ndarray, pattern: np.ndarray, D: int) -> tuple[list[np.ndarray], np.ndarray]:
    """``M_d``, shape (rank, k p), and the rank of each pattern's ``C_d = V_d M_d``."""
    flat = c.reshape(-1, c.shape[2]).T
    order = np.argsort(pattern, kind="stable")
    ends = np.cumsum(np.bincount(pattern, minlength=D))
    found = []
    for d in range(D):
        own = flat[order[ends[d - 1] if d else 0 : ends[d]]]
        _, values, right = np.linalg.svd(own, full_matrices=False)
        found.append((values, right))
    largest = max((values.max(initial=0.0) for values, _ in found), default=0.0)
    roots = [
        values[values > RANK_TOL * largest, None] * right[values > RANK_TOL * largest]
        for values, right in found
    ]
    return roots, np.array([root.shape[0] for root in roots])


def _start_map(root: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``sum_d w_d R_d'B_d R_d`` as a linear function of the packed ``B_d``."""
    k, _, D = root.shape
    blocks = []
    for a, b in zip(*pair_indices(k), strict=True):
        outer = np.einsum("id,jd->dij", root[a], root[b])
        # A packed entry off the diagonal holds both halves.
        both = 0.5 * (outer + np.swapaxes(outer, 1, 2))
        blocks.append((weights[:, None, None] * both).reshape(D, k * k))
    return np.concatenate(blocks)


def simulate_statistics(
    key: Array, sampler: StatisticsSampler, parameters: TrueParameters
) -> ResponseStatistics:
    """Draw the statistics of one replicate; pure, ``vmap``-able over keys and parameters.

    See :func:`simulate_cross_products`.
    """
    dtype = jnp.result_type(parameters.beta, jnp.float32)
    s = jax.tree.map(lambda x: jnp.asarray(x, dtype) if _is_float(x) else jnp.asarray(x), sampler)
    D, r, k, p = s.span.shape
    n_lower = k * (k - 1) // 2
    sigma = jnp.asarray(parameters.sigma, dtype)
    factor = _group_factor(s, parameters)

    counts = (D * r * k, D * n_lower, s.within_root.shape[1])
    normals = standard_normals(key, sum(counts)).astype(dtype)
    first, lower, inner = jnp.split(normals, np.cumsum(counts)[:-1])
    chi = chi_squared(key, jnp.concatenate([s.chi_df, s.within_df[None]]), stream=1)

    # Linear part: N with independent rows N(0, I), and all that is linear in it at once.
    first = first.reshape(D, r * k)
    column, row = pair_indices(k)
    linear = jnp.einsum("drax,bcd->drcabx", s.span, factor)
    linear = linear[..., column, row, :] + jnp.where(
        (column != row)[:, None], linear[..., row, column, :], 0.0
    )
    cross = jnp.einsum("dn,dnm->dm", first, linear.reshape(D, r * k, -1))
    cross = jnp.moveaxis(cross.reshape(D, column.size, p), 1, 0)
    spanned = first.reshape(D, r, k) * s.in_span[..., None]

    # Squares: those of the linear part, and Bartlett's lower-triangular A for the rest.
    roots = jnp.sqrt(jnp.zeros(D * k, dtype).at[s.chi_place].set(chi[:-1], mode="drop")).reshape(
        D, k
    )
    below = lower.reshape(n_lower, D)
    bartlett: list[list[Any]] = [[None] * k for _ in range(k)]
    at = 0
    for i in range(k):
        for j in range(i):
            # With few groups the matrix is singular: columns beyond their number are zero.
            bartlett[i][j] = jnp.where(s.wishart_df > j, below[at], 0.0)
            at += 1
        bartlett[i][i] = roots[:, i]
    columns = [
        [sum(factor[i, l] * bartlett[l][j] for l in range(j, i + 1)) for i in range(j, k)]
        for j in range(k)
    ]
    lines = [sum(factor[i, l][:, None] * spanned[:, :, l] for l in range(i + 1)) for i in range(k)]
    squares = []
    for a, b in zip(column, row, strict=True):
        entry = jnp.sum(lines[a] * lines[b], axis=1)
        for j in range(a + 1):
            entry = entry + columns[j][a - j] * columns[j][b - j]
        squares.append(entry if a == b else 2.0 * entry)
    square = jnp.stack(squares)

    # Within groups, and what least squares takes away: h is the response's part along X.
    fixed_within = sigma * (s.within_root @ inner)
    corner = sigma**2 * (inner @ inner + chi[-1])
    own = np.flatnonzero(column == row)
    h = jnp.sum(cross[own], axis=(0, 1)) + fixed_within
    taken = s.fixed_moments @ h
    square = square - 2.0 * (cross @ h) + taken @ h
    cross = cross - taken
    back = s.within_root @ (s.within_root.T @ h)
    corner = corner - 2.0 * (fixed_within @ h) + h @ back
    fixed_within = fixed_within - back
    scale = jnp.sqrt(jnp.sum(square[own]) + corner)
    square, corner = square / scale**2, corner / scale**2
    return ResponseStatistics(
        cross=cross / scale,
        squares=square,
        fixed_within=fixed_within / scale,
        corner=corner,
        scale=scale,
        beta_ols=jnp.asarray(parameters.beta, dtype) + _solve_upper(s.data.fixed_factor, h),
        start=_start(s, square, corner),
    )


def simulate_cross_products(
    key: Array, sampler: StatisticsSampler, parameters: TrueParameters
) -> CrossProducts:
    """Simulate one data set as its sufficient statistics; pure, ``vmap``-able over keys.

    Distributed as ``lmmjax.cross_products`` of a simulated response.

    Parameters
    ----------
    key : Array
        Of the replicate: ``jax.random.fold_in(key, replicate)``, of the threefry kind.
    sampler : StatisticsSampler
    parameters : TrueParameters
        In the order of the design's coefficients and effects (``parameters.aligned(design)``).

    Returns
    -------
    CrossProducts

    Notes
    -----
    Bartlett (1933), Proc. R. Soc. Edinburgh 53, 260-283, for the factor of a Wishart matrix, with
    degrees of freedom below its size too. The offset does not matter, since it is known.

    Examples
    --------
    >>> import jax, lmmjax as lj
    >>> frame = lj.simulate_design({"id": 500}, within={"time": range(5)})
    >>> design = lj.Design.from_formula("~ time + (1 | id)", frame)
    >>> truth = lj.TrueParameters.for_design(design, {"time": 3}, sd=10, sigma=5)
    >>> with lj.double_precision():
    ...     sampler = statistics_sampler(lj.prepare_design(design))
    ...     data = jax.jit(simulate_cross_products)(jax.random.key(1), sampler, truth)
    >>> abs(float(data.beta_ols[1]) - 3) < 0.5
    True
    """
    drawn = simulate_statistics(key, sampler, parameters)
    data = sampler.data
    template = data.elimination
    assert isinstance(template, MomentBlocks)
    pairs, D, p = drawn.cross.shape
    moments = jnp.asarray(template.moments, drawn.cross.dtype).reshape(pairs, D, p + 1, p + 1)
    moments = moments.at[..., :p, p].set(drawn.cross).at[..., p, :p].set(drawn.cross)
    moments = moments.at[..., p, p].set(drawn.squares)
    within = jnp.asarray(template.within, drawn.cross.dtype)
    within = within.at[:p, p].set(drawn.fixed_within).at[p, :p].set(drawn.fixed_within)
    within = within.at[p, p].set(drawn.corner)
    return replace(
        data,
        elimination=replace(template, moments=moments.reshape(pairs * D, -1), within=within),
        beta_ols=drawn.beta_ols,
        scale=drawn.scale,
        start=drawn.start,
    )


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.floating)


def _group_factor(s: StatisticsSampler, parameters: TrueParameters) -> Array:
    """Lower-triangular factor of each pattern's ``S``, shape (k, k, D)."""
    k = s.root.shape[0]
    scaled = jnp.einsum("abd,bc->acd", s.root, s.transform @ parameters.factors[0])
    matrix = jnp.einsum("acd,bcd->abd", scaled, scaled)
    variance = parameters.sigma**2 * s.active
    matrix = matrix + jnp.eye(k, dtype=matrix.dtype)[:, :, None] * variance[None]
    # Column by column, elementwise over patterns; a column without content stays zero.
    columns: list[Array] = []
    for j in range(k):
        rest = matrix[:, j]
        for column in columns:
            rest = rest - column * column[j]
        pivot = rest[j]
        there = s.active[j] > 0
        inverse = jnp.where(there, 1.0 / jnp.sqrt(jnp.where(there, pivot, 1.0)), 0.0)
        columns.append(jnp.where((np.arange(k) >= j)[:, None], rest * inverse, 0.0))
    return jnp.stack(columns, axis=1)


def _solve_upper(factor: Array, right: Array) -> Array:
    """``factor^-1 right`` by back substitution, elementwise."""
    p = right.shape[0]
    solution: list[Any] = [None] * p
    for i in reversed(range(p)):
        value = right[i]
        for j in range(i + 1, p):
            value = value - factor[i, j] * solution[j]
        solution[i] = value / factor[i, i]
    return jnp.stack(solution) if p else right


def _start(s: StatisticsSampler, squares: Array, corner: Array) -> Array:
    """Moment start, as :func:`lmmjax.likelihood.start.moment_start` has it for one term."""
    k = s.root.shape[0]
    n = s.data.n_obs
    variance = jnp.maximum(corner / s.start_df, 0.02 / n)
    bars = s.data.search_structures[0]
    right = unknowns_of(bars, (squares.reshape(-1) @ s.start_map).reshape(k, k))
    solution = s.equations.inverse @ (right / variance - s.equations.total)
    return term_start(bars, s.equations.starts[0], solution)
