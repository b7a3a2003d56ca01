"""Responses row by row: parameters and a design to simulated data sets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lmmjax.arguments import check_whole
from lmmjax.compiled import Kernel
from lmmjax.errors import LmmError
from lmmjax.likelihood.pytree import register, static
from lmmjax.precision import double_precision
from lmmjax.simulation.normals import as_key, standard_normals
from lmmjax.simulation.parameters import TrueParameters, aligned_parameters

if TYPE_CHECKING:
    from lmmjax.design import Design
    from lmmjax.result import LinearMixedModelResult

#: Numbers (rows times replicates) that are simulated at once on the host's behalf.
CHUNK_CELLS = 4_000_000


@register
@dataclass(frozen=True, eq=False)
class RowDesign:
    """The arrays of a design that responses are simulated from.

    Attributes
    ----------
    X : Array, shape (n, p)
    offset : Array, shape (n,)
    residual_scale : Array, shape (n,)
        ``1 / sqrt(weight)``.
    term_rows, term_index : tuples of Array
        Columns (n, k_t) and level (n,) of every term.
    levels : tuple of int
        Number of levels of each term.
    """

    X: Any
    offset: Any
    residual_scale: Any
    term_rows: tuple[Any, ...]
    term_index: tuple[Any, ...]
    levels: tuple[int, ...] = static()

    @classmethod
    def of(cls, design: Design) -> RowDesign:
        """The arrays of a :class:`lmmjax.Design`."""
        return cls(
            design.X,
            design.offset,
            1.0 / np.sqrt(design.weights),
            tuple(term.Z for term in design.terms),
            tuple(term.index for term in design.terms),
            tuple(len(term.levels) for term in design.terms),
        )


def simulate_response(key: Array, design: RowDesign, parameters: TrueParameters) -> Array:
    """One response, shape (n,), from the key of its replicate; pure, ``vmap``-able.

    See :func:`simulate_responses`.
    """
    X = jnp.asarray(design.X)
    n = X.shape[0]
    sizes = [z.shape[1] * count for z, count in zip(design.term_rows, design.levels, strict=True)]
    normals = standard_normals(key, sum(sizes) + n).astype(X.dtype)
    y = X @ parameters.beta + design.offset
    at = 0
    for rows, index, count, size, factor in zip(
        design.term_rows,
        design.term_index,
        design.levels,
        sizes,
        parameters.factors[: len(sizes)],
        strict=True,
    ):
        k = rows.shape[1]
        own = normals[at : at + size].reshape(k, count)
        at += size
        for a in range(k):
            # The triangle written out: elementwise, it fuses with what follows.
            effect = factor[a, 0] * own[0]
            for b in range(1, a + 1):
                effect = effect + factor[a, b] * own[b]
            y = y + jnp.asarray(rows)[:, a] * effect[jnp.asarray(index)]
    return y + parameters.sigma * design.residual_scale * normals[at:]


def simulate_responses(
    key: Array,
    design: RowDesign,
    parameters: TrueParameters,
    replicates: int,
    first: Array | int = 0,
) -> Array:
    """Responses of several replicates; pure, ``jit``- and ``vmap``-able.

    Parameters
    ----------
    key : Array
        Of the study; see :func:`lmmjax.simulation.normals.as_key`. Replicate r has the key
        ``jax.random.fold_in(key, r)``, so it is the same data in whatever chunk it is simulated (to
        the last of a deviate's 24 bits, where a chunk is compiled differently).
    design : RowDesign
    parameters : TrueParameters
        In the order of the design's coefficients and terms: there are no names here to match them
        by (``parameters.aligned(design)`` of the :class:`Design` does it).
    replicates : int
        How many.
    first : int
        Number of the first one.

    Returns
    -------
    Array, shape (replicates, n)
        In the dtype of the design.

    Notes
    -----
    ``y = X beta + offset + sum_t Z_t b_t + e``, with ``b_t ~ N(0, L_t L_t')`` for each level and
    ``e ~ N(0, sigma² / weight)``.

    Examples
    --------
    >>> import lmmjax as lj
    >>> frame = lj.simulate_design({"id": 50}, within={"time": range(5)})
    >>> design = lj.Design.from_formula("~ time + (1 | id)", frame)
    >>> truth = lj.TrueParameters.for_design(design, {"time": 3}, sd=10, sigma=5)
    >>> simulate = jax.jit(simulate_responses, static_argnums=3)
    >>> simulate(as_key(1), RowDesign.of(design), truth, 8).shape
    (8, 250)
    """
    numbers = jnp.asarray(first, jnp.uint32) + jnp.arange(replicates, dtype=jnp.uint32)
    return jax.vmap(lambda r: simulate_response(jax.random.fold_in(key, r), design, parameters))(
        numbers
    )


def simulated_rows(
    key_data: Array, design: RowDesign, parameters: TrueParameters, first: Array, *, replicates: int
) -> Array:
    """:func:`simulate_responses` from the key's words."""
    key = jax.random.wrap_key_data(key_data)
    return simulate_responses(key, design, parameters, replicates, first)


_simulated_rows = Kernel(simulated_rows)


def simulate_rows(
    design: RowDesign, parameters: TrueParameters, replicates: int, key: Any = 0, *, first: int = 0
) -> np.ndarray:
    """Responses as a NumPy array, shape (replicates, n), in 64 bits and in chunks."""
    check_whole("the number of data sets", replicates, 1)
    key_data = np.asarray(jax.random.key_data(as_key(key)))
    n = design.X.shape[0]
    out = np.empty((replicates, n))
    # A power of two, so that few shapes are compiled; replicates do not depend on it.
    chunk = 1 << max(0, (CHUNK_CELLS // max(n, 1)).bit_length() - 1)
    chunk = min(chunk, 1 << (int(replicates) - 1).bit_length())
    with double_precision():
        design, parameters = jax.device_put((design, parameters))
        for start in range(0, replicates, chunk):
            number = np.uint32(first + start)
            made = _simulated_rows(key_data, design, parameters, number, replicates=chunk)
            out[start : start + chunk] = made[: replicates - start]
    return out


def simulate(
    model: Design | LinearMixedModelResult,
    parameters: TrueParameters,
    n: int = 1,
    *,
    key: Any = 0,
) -> np.ndarray:
    """Simulate responses of a design.

    Parameters
    ----------
    model : Design or LinearMixedModelResult
        The design, or a fit for its design; a response does not matter.
    parameters : TrueParameters
        Matched to the design by name.
    n : int, default 1
        Number of data sets.
    key : int or Array, default 0
        A seed, or a JAX random key. Data set r depends on the key and on r alone.

    Returns
    -------
    ndarray, shape (n, number of rows)
        A data set in each row, for :func:`lmmjax.fit_many`.

    Raises
    ------
    LmmError
        `n` is not a number of data sets, or the parameters are of another model.

    Examples
    --------
    >>> import lmmjax as lj
    >>> frame = lj.simulate_design({"id": 50}, within={"time": range(5)})
    >>> design = lj.Design.from_formula("~ time + (1 | id)", frame)
    >>> truth = lj.TrueParameters.for_design(design, {"time": 3}, sd=10, sigma=5)
    >>> lj.simulate(design, truth, 3, key=1).shape
    (3, 250)
    """
    design: Design = model.design if hasattr(model, "raw") else model  # type: ignore
    return simulate_rows(RowDesign.of(design), aligned_parameters(parameters, design), n, key)


def simulate_from_fit(
    fit: LinearMixedModelResult, n: int, key: Any, re: Literal["new", "fitted"]
) -> np.ndarray:
    """Do the work of :meth:`lmmjax.LinearMixedModelResult.simulate`, which documents it."""
    if re not in ("new", "fitted"):
        raise LmmError(f"re must be 'new' or 'fitted', not {re!r}")
    rows, parameters = RowDesign.of(fit.design), TrueParameters.from_fit(fit)
    if re == "fitted":
        known = fit.conditional_mean - fit.design.X @ fit.beta
        rows = replace(rows, offset=known, term_rows=(), term_index=(), levels=())
    return simulate_rows(rows, parameters, n, key)
