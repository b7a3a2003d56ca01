"""Where the lanes of a batch come from: given responses, simulated rows, simulated statistics.

Replicate r of a study has the key ``fold_in(key, r)``, whatever batch it falls into.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np
from jax import Array

from lmmjax.compiled import Kernel
from lmmjax.errors import LmmError
from lmmjax.fitting import on_device
from lmmjax.likelihood.crossproducts import CrossProducts, Prepared, cross_products
from lmmjax.many.engine import (
    Own,
    lanes_of_masked_responses,
    lanes_of_responses,
    split_lane,
)
from lmmjax.precision import double_precision
from lmmjax.simulation.normals import as_key
from lmmjax.simulation.parameters import aligned_parameters
from lmmjax.simulation.rows import RowDesign, simulate_response
from lmmjax.simulation.statistics import (
    StatisticsSampler,
    simulate_cross_products,
    statistics_sampler,
)

if TYPE_CHECKING:
    from lmmjax.design import Design
    from lmmjax.simulation.parameters import TrueParameters


@dataclass(frozen=True)
class Source:
    """Gives lanes by the numbers of their replicates; called from several threads.

    Attributes
    ----------
    draw : callable
        ``(first, lanes) -> own``: the lanes' own parts of replicates ``first`` to
        ``first + lanes - 1``.
    rows : int
        Rows that each lane is computed from, for the memory that a batch takes; 0 if there are
        none.
    """

    draw: Callable[[int, int], Own]
    rows: int

    def __call__(self, first: int, lanes: int) -> Own:
        """The lanes' own parts."""
        return self.draw(first, lanes)


def lanes_of_simulated_rows(
    key_data: Array,
    numbers: Array,
    prepared: Prepared,
    rows: RowDesign,
    parameters: TrueParameters,
) -> Own:
    """Lanes of replicates ``numbers``, shape (lanes,), simulated row by row."""
    key = jax.random.wrap_key_data(key_data)

    def lane(r: Array) -> Own:
        y = simulate_response(jax.random.fold_in(key, r), rows, parameters)
        return split_lane(cross_products(prepared, y))

    return jax.vmap(lane)(numbers)


def lanes_of_simulated_statistics(
    key_data: Array, numbers: Array, sampler: StatisticsSampler, parameters: TrueParameters
) -> Own:
    """Lanes of replicates ``numbers``, shape (lanes,), simulated as sufficient statistics."""
    key = jax.random.wrap_key_data(key_data)

    def lane(r: Array) -> Own:
        return split_lane(simulate_cross_products(jax.random.fold_in(key, r), sampler, parameters))

    return jax.vmap(lane)(numbers)


_lanes_of_responses = Kernel(lanes_of_responses)
_lanes_of_masked_responses = Kernel(lanes_of_masked_responses)
_lanes_of_simulated_rows = Kernel(lanes_of_simulated_rows)
_lanes_of_simulated_statistics = Kernel(lanes_of_simulated_statistics)


def response_source(prepared: Prepared, Y: np.ndarray) -> Source:
    """Lanes from given responses, shape (replicates, n); NaN stands for a row that is not there."""
    sent = on_device(prepared)
    kernel = _lanes_of_masked_responses if np.isnan(Y).any() else _lanes_of_responses

    def draw(first: int, lanes: int) -> Own:
        rows = Y[first : first + lanes]
        if len(rows) < lanes:
            rows = np.concatenate([rows, np.repeat(rows[:1], lanes - len(rows), axis=0)])
        return kernel(sent, rows)

    return Source(draw, Y.shape[1])


def simulated_source(
    design: Design,
    prepared: Prepared,
    parameters: TrueParameters,
    key: Any,
    by: Literal["auto", "rows", "statistics"] = "auto",
) -> Source:
    """Lanes simulated from a design and its true parameters.

    Parameters
    ----------
    design, prepared : Design, Prepared
    parameters : TrueParameters
        Matched to the design by name.
    key : int or JAX key
    by : {"auto", "rows", "statistics"}
        ``"statistics"`` costs the same however many rows there are, but needs a single grouping
        factor; ``"auto"`` takes it where it can.

    Raises
    ------
    LmmError
        The statistics of this design cannot be simulated, and were asked for; or the parameters
        are of another model.
    """
    parameters = aligned_parameters(parameters, design)
    key_data = np.asarray(jax.random.key_data(as_key(key)))
    sampler = None
    if by != "rows":
        try:
            sampler = statistics_sampler(prepared)
        except LmmError:
            if by == "statistics":
                raise
    if sampler is not None:
        with double_precision():
            arrays = jax.device_put((sampler, parameters))
        kernel: Kernel = _lanes_of_simulated_statistics
    else:
        with double_precision():
            arrays = (
                on_device(prepared),
                *jax.device_put((RowDesign.of(design), parameters)),
            )
        kernel = _lanes_of_simulated_rows

    def draw(first: int, lanes: int) -> Own:
        numbers = np.arange(first, first + lanes, dtype=np.uint32)
        return kernel(key_data, numbers, *arrays)

    return Source(draw, 0 if sampler is not None else design.X.shape[0])


def any_response(prepared: Prepared) -> np.ndarray:
    """Some response, shape (n,), for what does not depend on it."""
    # Not a seed that a predictor may have been drawn with.
    return np.random.default_rng(7_263_910_458).normal(size=prepared.root_weights.shape[0])


def any_lane(prepared: Prepared) -> CrossProducts:
    """Cross-products of some response: for what all lanes share."""
    return cross_products(prepared, any_response(prepared))
