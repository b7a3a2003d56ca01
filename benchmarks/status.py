"""Whether batched fits that claim convergence have converged: ``python benchmarks/status.py``.

The designs are those of `modes.py`, with one grouping factor; each gets many responses, whose
effects come from heavy tails or hold outliers. A lane that claims convergence should have a
gradient (in standardised parameters) of at most 1e-5, and no run from five random starts should end
lower by more than 1e-6.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import jax
import modes
import numpy as np

#: Largest gradient of a fit that has converged, and by how much nothing else should be lower.
GRADIENT, LOWER = 1e-5, 1e-6
STARTS = 5
FAMILIES = ("outlying groups", "few groups", "near-singular", "three effects", "ordinary")


def responses(design: Any, rng: np.random.Generator, count: int) -> np.ndarray:
    """Responses with heavy-tailed effects on a design, shape (count, n)."""
    term = design.terms[0]
    Y = rng.normal(size=(count, design.X.shape[0]))
    for y in Y:
        for column in term.Z.T:
            y += modes.effects(rng, len(term.levels))[term.index] * column
    return Y


def random_runs(shared: Any, own: Any, rng: np.random.Generator, lanes: int) -> np.ndarray:
    """Lowest criterion of each lane from random starts, and whether that run converged."""
    from lmmjax.many.engine import Lanes
    from lmmjax.many.runner import EVALUATIONS, _fit_lanes

    lowest = np.full(lanes, np.inf)
    for _ in range(STARTS):
        starts = modes.random_starts(shared.search_structures, rng, lanes)
        limit = np.int32(EVALUATIONS)
        fits = _fit_lanes(Lanes(shared, own), starts, np.ones(lanes), np.int32(0), limit, reml=True)
        found = np.asarray(fits.estimate.criterion)
        lowest = np.fmin(lowest, np.where(np.isfinite(found), found, np.inf))
    return lowest


def measure(family: str, designs: int, replicates: int) -> list[np.ndarray]:
    """Status, gradient, and how much lower random starts end, of all fits of a family."""
    import lmmjax as lj
    from lmmjax.many.runner import chunk_lanes, fit_chunks
    from lmmjax.many.sources import response_source

    out = []
    for i in range(designs):
        rng = np.random.default_rng([2, list(modes.FAMILIES).index(family), i])
        formula, frame = modes.FAMILIES[family](rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lj.LmmWarning)
            design = lj.build_design(formula, frame)
        prepared = lj.prepare_design(design)
        Y = responses(design, rng, replicates)
        shared = lj.cross_products(prepared, Y[0])
        source = response_source(prepared, Y)
        lanes = chunk_lanes(shared, replicates, source.rows)
        for chunk in fit_chunks(prepared, shared, source, replicates, lanes=lanes):
            fits = chunk.estimate
            count = len(fits.criterion)
            lowest = random_runs(shared, source(chunk.first, lanes), rng, lanes)[:count]
            gradient = np.abs(fits.solution.gradient).max(axis=1)
            lower = fits.criterion - lowest
            out.append(np.stack([fits.solution.status, gradient, lower, fits.rival]))
    return list(np.concatenate(out, axis=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fits", type=int, default=100_000)
    parser.add_argument("--designs", type=int, default=20, help="designs of a family")
    args = parser.parse_args()
    from lmmjax.modes import CLOSE
    from lmmjax.optimize.solution import Status

    replicates = args.fits // (len(FAMILIES) * args.designs)
    began = time.perf_counter()
    print("| | fits | converged | stalled | limit | gradient > 1e-5 | lower by > 1e-6 |", end="")
    print(" lower by > 1e-4 | two optima within 2 |")
    print("| --- |" + " ---: |" * 8)
    total = []
    for family in (*FAMILIES, "all"):
        parts = total if family == "all" else [measure(family, args.designs, replicates)]
        status, gradient, lower, rival = (np.concatenate(x) for x in zip(*parts, strict=True))
        if family != "all":
            total.append([status, gradient, lower, rival])
        claims = status == Status.CONVERGED
        counts = [
            claims,
            status == Status.STALLED,
            status == Status.ITERATION_LIMIT,
            claims & (gradient > GRADIENT),
            claims & (lower > LOWER),
            claims & (lower > modes.MISS),
            rival <= CLOSE,
        ]
        cells = [family, str(status.size), *(str(np.count_nonzero(c)) for c in counts)]
        print("| " + " | ".join(cells) + " |", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s on {jax.devices()[0].platform}")


if __name__ == "__main__":
    main()
