"""Batches of lanes on the machine at hand: chunks, threads, and another round for stragglers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from lmmjax.arguments import check_whole
from lmmjax.compiled import Kernel
from lmmjax.estimate import Estimate
from lmmjax.likelihood.crossproducts import CrossProducts, Prepared
from lmmjax.many.devices import check_mesh, fit_lanes_on
from lmmjax.many.engine import LaneFits, Lanes, Own, fit_lanes, is_elementwise
from lmmjax.many.sources import Source
from lmmjax.modes import merge, other_starts, screen_of

#: Lanes of a chunk: on a processor what its caches hold, on an accelerator what fills it.
CPU_LANES, ACCELERATOR_LANES = 512, 65_536
#: Rows times lanes of a chunk that is computed from rows (of doubles, a few of which there are).
CPU_CELLS, ACCELERATOR_CELLS = 1 << 24, 1 << 28
#: Lanes that are fitted one after the other.
SERIAL_LANES = 16
#: Share of a chunk's lanes that may be left to a later round, and evaluations in all.
LEAVE, EVALUATIONS = 4, 100
#: Share of a batch's lanes that has a smaller batch of its own.
FEW = 8

_fit_lanes = Kernel(fit_lanes)

#: ``(lanes, start, radius, leave, limit, reml=) -> fits``, in NumPy arrays.
Fitter = Callable[..., LaneFits]


def chunk_lanes(data: CrossProducts, replicates: int, rows: int = 0) -> int:
    """Lanes of a chunk, a power of two: few shapes are compiled.

    Parameters
    ----------
    data : CrossProducts
        Of any replicate.
    replicates : int
        How many are wanted.
    rows : int
        Rows that each is computed from, as :class:`~lmmjax.many.sources.Source` has it.
    """
    on_cpu = jax.default_backend() == "cpu"
    if not is_elementwise(data):
        most = SERIAL_LANES
    else:
        most = CPU_LANES if on_cpu else ACCELERATOR_LANES
        # Many patterns make a lane larger.
        patterns = np.shape(data.elimination.root)[-1]
        most = max(64, most >> max(0, patterns.bit_length() - 3))
    if rows:
        cells = CPU_CELLS if on_cpu else ACCELERATOR_CELLS
        most = min(most, 1 << max(3, (cells // rows).bit_length() - 1))
    return min(most, 1 << max(3, (replicates - 1).bit_length()))


@dataclass(frozen=True)
class Chunk:
    """Estimates of consecutive replicates.

    Attributes
    ----------
    first : int
        Number of the first replicate.
    estimate : Estimate
        NumPy arrays, replicates first.
    """

    first: int
    estimate: Estimate


def fit_chunks(
    prepared: Prepared,
    shared: CrossProducts,
    source: Source,
    replicates: int,
    *,
    first: int = 0,
    reml: bool = True,
    lanes: int | None = None,
    workers: int | None = None,
    mesh: Mesh | None = None,
) -> Iterator[Chunk]:
    """Fit replicates chunk by chunk, in order.

    Parameters
    ----------
    prepared : Prepared
        The design, which decides which fits are tried from other starts.
    shared : CrossProducts
        Of any replicate.
    source : Source
    replicates, first : int
        How many, and the number of the first.
    reml : bool
    lanes : int, optional
        Lanes of a chunk; chosen by the design, its rows and the machine if not given.
    workers : int, optional
        Threads; by default one for each processor, or one for an accelerator.
    mesh : Mesh, optional
        Devices to split every chunk over, each taking as many lanes as one alone would.

    Yields
    ------
    Chunk
        Whose stragglers have been finished, and whose doubtful fits have been tried again.

    Raises
    ------
    LmmError
        A number of lanes or threads is not possible.
    """
    for name, count in (("lanes", lanes), ("workers", workers)):
        if count is not None:
            check_whole(name, count, 1)
    fit: Fitter = _fit_lanes
    devices = 1
    if mesh is not None:
        check_mesh(mesh)
        fit, devices, workers = partial(fit_lanes_on, mesh), mesh.size, 1
    if lanes is None:
        lanes = devices * chunk_lanes(shared, -(-replicates // devices), source.rows)
    lanes = -(-lanes // devices) * devices
    if workers is None:
        workers = (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1
    starts = range(first, first + replicates, lanes)
    screen = screen_of(prepared)
    # Sums over levels are for the screen alone: without them fits of designs with other numbers of
    # levels share what is compiled.
    bare = replace(shared, level_sums=())

    def work(at: int) -> tuple[Any, Own, LaneFits]:
        own = dict(source(at, lanes))
        sums = own.pop("level_sums")
        return sums, own, _first_round(fit, bare, own, lanes, reml)

    # Rounds of as many chunks as keep the pool of stragglers worth a batch of its own.
    window = max(1, LEAVE * workers)
    with ThreadPoolExecutor(workers) as pool:
        for at in range(0, len(starts), window):
            batch = starts[at : at + window]
            if at == 0:  # alone, so that only one thread compiles
                done = [work(batch[0]), *pool.map(work, batch[1:])]
            else:
                done = list(pool.map(work, batch))
            sums, own, fits = (
                jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
                for parts in zip(*done, strict=True)
            )
            _finish(fit, bare, own, fits, lanes, reml)
            doubted = screen.doubted_lanes(fits.estimate, sums, own["scale"])
            if doubted.size:
                _look_again(fit, doubted, bare, own, fits, lanes, reml)
            for place, start in enumerate(batch):
                low = place * lanes
                high = low + min(lanes, first + replicates - start)
                yield Chunk(start, jax.tree.map(lambda x, a=low, b=high: x[a:b], fits.estimate))


def _first_round(fit: Fitter, shared: CrossProducts, own: Own, lanes: int, reml: bool) -> LaneFits:
    leave = np.int32(lanes // LEAVE)
    radius = np.ones(lanes)
    return fit(Lanes(shared, own), own["start"], radius, leave, np.int32(EVALUATIONS), reml=reml)


def _finish(
    fit: Fitter, shared: CrossProducts, own: Own, fits: LaneFits, lanes: int, reml: bool
) -> None:
    """Gather what is still running, and run it again until nothing is; ``fits`` is changed."""
    iterations = fits.estimate.solution.iterations
    while True:
        left = np.flatnonzero(fits.running & (iterations < EVALUATIONS))
        for at in range(0, left.size, lanes):
            some = left[at : at + lanes]
            padded = np.concatenate([some, np.repeat(some[:1], lanes - some.size)])
            spent = iterations[some]
            again = fit(
                Lanes(shared, jax.tree.map(lambda x, i=padded: x[i], own)),
                fits.estimate.solution.theta[padded],
                fits.radius[padded],
                np.int32(0 if left.size <= lanes else lanes // LEAVE),
                np.int32(EVALUATIONS),
                reml=reml,
            )
            for old, new in zip(jax.tree.leaves(fits), jax.tree.leaves(again), strict=True):
                old[some] = new[: some.size]
            iterations[some] += spent
        if left.size == 0:
            return


def _look_again(
    fit: Fitter,
    doubted: np.ndarray,
    shared: CrossProducts,
    own: Own,
    fits: LaneFits,
    lanes: int,
    reml: bool,
) -> None:
    """Run the lanes in doubt from other starts, and keep the best; ``fits`` is changed."""
    starts = other_starts(shared.search_structures)
    lane, begin = np.tile(doubted, len(starts)), np.repeat(starts, doubted.size, axis=0)
    again = _fit_from(fit, shared, own, fits, lane, begin, lanes, reml)
    before = jax.tree.map(lambda x: x[doubted], fits.estimate)
    runs = jax.tree.map(
        lambda old, new: np.concatenate([old[None], new.reshape(len(starts), *old.shape)]),
        before,
        again,
    )
    best, _ = merge(runs)
    for old, new in zip(jax.tree.leaves(fits.estimate), jax.tree.leaves(best), strict=True):
        old[doubted] = new


def _fit_from(
    fit: Fitter,
    shared: CrossProducts,
    own: Own,
    fits: LaneFits,
    lane: np.ndarray,
    begin: np.ndarray,
    lanes: int,
    reml: bool,
) -> Estimate:
    """Fit lanes, by number, from given starts; as many of a batch's size as it takes."""
    # A handful is not worth a whole batch; nor is it worth one more size to compile.
    few = max(8, lanes // FEW)
    size = few if fit is _fit_lanes and lane.size <= few else lanes
    parts = []
    for at in range(0, lane.size, size):
        some = lane[at : at + size]
        fill = size - some.size
        padded = np.concatenate([some, np.repeat(some[:1], fill)])
        # What fills the batch starts where it ends.
        end = fits.estimate.solution.theta[some[:1]]
        start = np.concatenate([begin[at : at + size], np.repeat(end, fill, axis=0)])
        found = fit(
            Lanes(shared, jax.tree.map(lambda x, i=padded: x[i], own)),
            start,
            np.ones(size),
            np.int32(0),
            np.int32(EVALUATIONS),
            reml=reml,
        )
        parts.append(jax.tree.map(lambda x, n=some.size: x[:n], found.estimate))
    return jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
