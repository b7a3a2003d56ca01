"""Expected precision of a design's fixed effects, differentiable in parameters and sample sizes.

Rows fall into blocks that share no level of any grouping factor: the groups of one factor, the
schools of classes within schools, all rows of a crossed design. With rows scaled by the roots of
their weights, a block has covariance ``V = sigma^2 I + Z Psi Z'``, which is linear in the variance
parameters: sigma^2, and the variances and covariances in Psi. Their expected information is

    I_ij = tr(P V_i P V_j) / 2,    P = V^-1 - V^-1 X Phi X'V^-1,    Phi = (X'V^-1 X)^-1

under REML (V^-1 in place of P under ML). Everything follows from a block's number of rows and the
products ``C = [Z X]'[Z X]``, without anything of the size of its rows:

    [Z X]'V^-j [Z X] = C T^j / sigma^(2j),    T = I - J M [Z'Z, Z'X],
    M = Psi (sigma^2 I + Z'Z Psi)^-1

(J puts M's rows in Z's place). Blocks with the same products count once. Because only counts, rows
and products enter, both sample sizes may be any positive number: so many times the blocks, and so
many times every row of each.

Source: Searle, Casella & McCulloch (1992), Variance Components, chapter 6; Fai & Cornelius (1996),
J. Stat. Comput. Simul. 54, 363-378, for the degrees of freedom of F tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from lmmjax.inference.pooled import TIE, parted, pooled_df, row_sizes
from lmmjax.inference.units import same_units
from lmmjax.studies.noncentral import f_power, t_power
from lmmjax.studies.patterns import DesignPatterns

if TYPE_CHECKING:
    from lmmjax.simulation.parameters import TrueParameters

#: Eigenvalues this close, relative to the largest, turn into each other at the least change.
SAME = 100.0 * TIE


class PowerInputs(NamedTuple):
    """What power depends on; its derivative is a value of the same kind.

    Attributes
    ----------
    beta : Array, shape (p,)
    sd : tuple of Array, shape (k_t,)
        Standard deviations of each term's effects.
    correlation : tuple of Array
        Of each term, for the pairs within its blocks in the order of a lower triangle by rows.
    sigma : Array, scalar
    groups : Array, scalar
        Number of groups (blocks): those of the design, each so many times as often.
    per_group : Array, scalar
        Mean number of rows of a group: those of the design, each so many times as often.
    """

    beta: Any
    sd: tuple[Any, ...]
    correlation: tuple[Any, ...]
    sigma: Any
    groups: Any
    per_group: Any

    @classmethod
    def of(
        cls,
        patterns: DesignPatterns,
        parameters: TrueParameters,
        groups: float | None = None,
        per_group: float | None = None,
    ) -> PowerInputs:
        """Of true parameters; sample sizes are the design's if not given."""
        correlations = tuple(
            np.array([matrix[i, j] for i, j in pairs_of(sizes)])
            for matrix, sizes in zip(parameters.correlation.values(), patterns.blocks, strict=True)
        )
        return cls(
            np.asarray(parameters.beta, np.float64),
            tuple(np.array(list(sds.values())) for sds in parameters.sd.values()),
            correlations,
            np.asarray(parameters.sigma, np.float64),
            np.asarray(patterns.groups if groups is None else groups, np.float64),
            np.asarray(patterns.per_group if per_group is None else per_group, np.float64),
        )


def pairs_of(blocks: tuple[int, ...]) -> list[tuple[int, int]]:
    """Pairs of effects that may be correlated, (row, column) of a lower triangle."""
    starts = np.cumsum([0, *blocks])
    return [
        (i, j)
        for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
        for i in range(start, end)
        for j in range(start, i)
    ]


class Precision(NamedTuple):
    """Covariance of the fixed effects, and what their degrees of freedom need.

    Attributes
    ----------
    vcov : Array, shape (p, p)
    slopes : Array, shape (m, p, p)
        ``X'V^-1 V_i V^-1 X``: vcov changes by ``vcov slopes vcov`` with each variance parameter.
    information : Array, shape (m, m)
        Expected, of sigma^2 and the variances and covariances of each term.
    """

    vcov: Array
    slopes: Array
    information: Array


def expected_precision(
    inputs: PowerInputs, patterns: DesignPatterns, reml: bool = True
) -> Precision:
    """Covariance of the fixed effects and expected information, at the true parameters."""
    widths = [n * sum(b) for n, b in zip(patterns.levels, patterns.blocks, strict=True)]
    q = sum(widths)
    sigma2 = inputs.sigma**2
    psi = _psi(inputs, patterns)
    more = inputs.per_group / patterns.per_group
    count = patterns.count * (inputs.groups / patterns.groups)

    def moved(A: Array) -> Array:
        """``A Psi_i`` for each variance and covariance in Psi, shape (m - 1, a, q)."""
        parts, start = [], 0
        for n, sizes, root, width in zip(
            patterns.levels, patterns.blocks, patterns.z_roots, widths, strict=True
        ):
            units = jnp.asarray(root) @ _units(sizes) @ jnp.asarray(root).T
            own = A[:, start : start + width].reshape(len(A), n, -1)
            own = jnp.einsum("ank,ikl->ianl", own, units).reshape(len(units), len(A), width)
            parts.append(jnp.pad(own, ((0, 0), (0, 0), (start, q - start - width))))
            start += width
        return jnp.concatenate(parts)

    def block(C: Array, rows: Array) -> tuple[Array, Array, Array, Array]:
        """X'V^-1X, X'V^-1 V_i V^-1X, X'V^-1 V_i V^-1 V_j V^-1X, tr(V^-1 V_i V^-1 V_j)."""
        S = C[:q, :q]
        M = psi @ jnp.linalg.inv(sigma2 * jnp.eye(q) + S @ psi)
        T = jnp.eye(C.shape[0]).at[:q].add(-(M @ C[:q]))
        one = C @ T / sigma2
        two = one @ T / sigma2
        three = two @ T / sigma2
        G, H = one[:q, :q], one[q:, :q]
        rest = jnp.eye(q) - M @ S
        GE, HE = moved(G), moved(H)
        HEG = HE @ G
        # sigma^2 first, whose V_i is the identity
        slopes = jnp.concatenate([two[None, q:, q:], HE @ H.T])
        corner = three[q:, q:]
        edge = HE @ two[:q, q:]
        inner = jnp.einsum("iab,jcb->ijac", HEG, HE)
        products = _bordered(corner, jnp.swapaxes(edge, 1, 2), inner)
        traces = _bordered(
            (rows - q + jnp.sum(rest * rest.T)) / sigma2**2,
            jnp.trace(moved(two[:q, :q]), axis1=1, axis2=2),
            jnp.einsum("iab,jba->ij", GE, GE),
        )
        return one[q:, q:], slopes, products, traces

    def add(total: Any, own: Any) -> tuple[Any, None]:
        C, rows, n = own
        found = block(more * C, more * rows)
        return jax.tree.map(lambda a, b: a + n * b, total, found), None

    arrays = tuple(jnp.asarray(a) for a in (patterns.products, patterns.rows, count))
    shapes = jax.eval_shape(block, arrays[0][0], arrays[1][0])
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    (gram, slopes, products, traces), _ = lax.scan(add, zero, arrays)
    vcov = _inverse(gram)
    if reml:
        share = vcov @ slopes
        traces = (
            traces
            - 2.0 * jnp.einsum("ab,ijba->ij", vcov, products)
            + jnp.einsum("iab,jba->ij", share, share)
        )
    back = jnp.linalg.inv(patterns.x_root)
    return Precision(
        back @ vcov @ back.T, patterns.x_root.T @ slopes @ patterns.x_root, 0.5 * traces
    )


def _bordered(corner: Array, edge: Array, inner: Array) -> Array:
    """``[[corner, edge], [edge', inner]]`` over the first two axes; entries may be matrices."""
    across = jnp.swapaxes(edge, 1, 2) if edge.ndim > 1 else edge
    top = jnp.concatenate([corner[None], edge])[None]
    return jnp.concatenate([top, jnp.concatenate([across[:, None], inner], axis=1)])


def _inverse(matrix: Array) -> Array:
    """Inverse of a positive-definite matrix whose rows may be of very different scale."""
    root = jnp.sqrt(jnp.diagonal(matrix))
    return jnp.linalg.inv(matrix / (root[:, None] * root)) / (root[:, None] * root)


def _psi(inputs: PowerInputs, patterns: DesignPatterns) -> Array:
    """Covariance matrix of a block's random effects, of orthonormal columns, shape (q, q)."""
    parts = []
    for sd, r, n, sizes, root in zip(
        inputs.sd,
        inputs.correlation,
        patterns.levels,
        patterns.blocks,
        patterns.z_roots,
        strict=True,
    ):
        matrix = jnp.eye(sum(sizes))
        if pairs := pairs_of(sizes):
            i, j = np.array(pairs).T
            matrix = matrix.at[i, j].set(r).at[j, i].set(r)
        wide = jnp.asarray(root) * jnp.asarray(sd)
        parts.append(jnp.kron(jnp.eye(n), wide @ matrix @ wide.T))
    return jax.scipy.linalg.block_diag(*parts)


def _units(sizes: tuple[int, ...]) -> np.ndarray:
    """How a term's covariance matrix changes with each variance and covariance."""
    k = sum(sizes)
    places = [(i, i) for i in range(k)] + pairs_of(sizes)
    units = np.zeros((len(places), k, k))
    for unit, (i, j) in zip(units, places, strict=True):
        unit[i, j] = unit[j, i] = 1.0
    return units


class ExpectedPower(NamedTuple):
    """Power of a test.

    Attributes
    ----------
    power, miss : Array, scalar
        Probabilities to reject, and not to.
    df : Array, scalar
        Satterthwaite degrees of freedom (denominator).
    noncentrality : Array, scalar
        Effect in standard errors; with several hypotheses, the noncentrality of F.
    vcov : Array, shape (q, q)
        Covariance of the hypotheses' estimates.
    identified : Array, scalar
        Smallest eigenvalue of the variance parameters' information, scaled to a diagonal of ones:
        not above 0 where the design cannot tell them apart.
    """

    power: Array
    miss: Array
    df: Array
    noncentrality: Array
    vcov: Array
    identified: Array


def expected_power(
    inputs: PowerInputs,
    patterns: DesignPatterns,
    L: Any,
    rhs: Any = 0.0,
    alpha: Any = 0.05,
    reml: bool = True,
) -> ExpectedPower:
    """Power of ``L beta = rhs`` by expected information; a pure function of JAX.

    Parameters
    ----------
    inputs : PowerInputs
        True parameters and sample sizes: differentiate in any of them.
    patterns : DesignPatterns
    L : Array, shape (q, p)
        Full row rank.
    rhs : Array, shape (q,)
    alpha : float
    reml : bool, default True

    Returns
    -------
    ExpectedPower

    Notes
    -----
    Satterthwaite's df are ``2 f^2 / (g' I^-1 g)``, ``f = l'vcov l`` with gradient g in the variance
    parameters, I their expected information. Under a singular covariance matrix they are those of
    estimates that are free to leave the boundary. Power has first derivatives only.

    Examples
    --------
    >>> import jax
    >>> import lmmjax as lj
    >>> frame = lj.simulate_design({"id": 20}, within={"time": range(5)})
    >>> design = lj.Design.from_formula("y ~ time + (1 + time | id)", frame)
    >>> truth = lj.TrueParameters.for_design(design, {"time": 1}, sd=[3, 1], sigma=4)
    >>> patterns = lj.DesignPatterns.of(design)
    >>> inputs = lj.PowerInputs.of(patterns, truth)
    >>> with lj.double_precision():
    ...     slope = jax.grad(lambda x: lj.expected_power(x, patterns, [[0.0, 1.0]]).power)(inputs)
    >>> print(f"one more group: {slope.groups:+.4f}; a larger sigma: {slope.sigma:+.4f}")
    one more group: +0.0233; a larger sigma: -0.1286
    """
    L = jnp.atleast_2d(jnp.asarray(L))
    q = L.shape[0]
    found = expected_precision(inputs, patterns, reml)
    V = L @ found.vcov @ L.T
    difference = L @ inputs.beta - rhs
    root = jnp.sqrt(jnp.diagonal(found.information))
    identified = jnp.linalg.eigvalsh(found.information / (root[:, None] * root))[0]
    if q == 1:
        delta = difference[0] / jnp.sqrt(V[0, 0])
        df = _degrees(L, found)[0]
        power, miss = t_power(alpha, df, delta)
        return ExpectedPower(power, miss, df, delta, V, identified)
    # Divided by standard errors before solving: coefficients may be in very different units.
    se = jnp.sqrt(jnp.diagonal(V))
    scaled = difference / se
    size = scaled @ jnp.linalg.solve(V / (se[:, None] * se), scaled)
    alike = same_units(L, jnp.asarray(patterns.units), jnp)
    sizes = row_sizes(V, alike, q, jnp)
    rows = L / sizes[:, None]
    moved = rows @ found.vcov
    vectors = _eigenvectors(
        parted(
            V / (sizes[:, None] * sizes),
            moved @ found.slopes @ moved.T,
            _inverse(found.information),
            jnp,
        )
    )
    df = pooled_df(_degrees(vectors.T @ rows, found), jnp)
    power, miss = f_power(alpha, q, df, size)
    return ExpectedPower(power, miss, df, size, V, identified)


def _degrees(rows: Array, found: Precision) -> Array:
    """Satterthwaite's df of each row, shape (q,)."""
    moved = rows @ found.vcov
    variance = jnp.sum(moved * rows, axis=1)
    gradient = jnp.einsum("qa,iab,qb->qi", moved, found.slopes, moved)
    # Relative to each parameter's own information: variances may be of very different size.
    root = jnp.sqrt(jnp.diagonal(found.information))
    gradient = gradient / root
    information = found.information / (root[:, None] * root)
    spread = jnp.sum(gradient * jnp.linalg.solve(information, gradient.T).T, axis=1)
    return 2.0 * variance**2 / spread


def _eigenvectors(V: Array) -> Array:
    """Eigenvectors, whose derivatives leave equal eigenvalues where they are (in place of nan)."""
    still = lax.stop_gradient(V)
    values, vectors = jnp.linalg.eigh(still)
    gap = values - values[:, None]
    apart = jnp.abs(gap) > SAME * values[-1]
    turn = jnp.where(apart, vectors.T @ (V - still) @ vectors / jnp.where(apart, gap, 1.0), 0.0)
    return vectors + vectors @ turn
