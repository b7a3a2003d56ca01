"""`fit_simulated()`: simulate replicates of a design and fit them, in one go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.inference.identified import check_determined
from lmmjax.keywords import known_keywords
from lmmjax.many.fit_many import resolve
from lmmjax.many.fits import ManyFits
from lmmjax.many.runner import fit_chunks
from lmmjax.many.sources import any_lane, simulated_source

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from lmmjax.design import Design
    from lmmjax.result import LinearMixedModelResult
    from lmmjax.simulation.parameters import TrueParameters


@known_keywords
def fit_simulated(
    model: Design | LinearMixedModelResult,
    parameters: TrueParameters,
    replicates: int,
    *,
    first: int = 0,
    key: Any = 0,
    method: Literal["REML", "ML"] | None = None,
    by: Literal["auto", "rows", "statistics"] = "auto",
    lanes: int | None = None,
    workers: int | None = None,
    mesh: Mesh | None = None,
) -> ManyFits:
    """Simulate data sets of a design and fit them.

    A plain function of what can be pickled: an executor (concurrent.futures, Dask, Ray) can map it
    over shares of a study, and :func:`lmmjax.concatenate` puts them together.

    Parameters
    ----------
    model : Design or LinearMixedModelResult
        The design, with a fit's covariance structures and method.
    parameters : TrueParameters
        What is simulated; matched to the design by name.
    replicates, first : int
        How many, and the number of the first: replicate r is the same data set in whatever share or
        batch, and on whatever device.
    key : int or Array, default 0
        Seed of the study, or a JAX random key.
    method : {"REML", "ML"}, optional
        By default that of the fit, or REML.
    by : {"auto", "rows", "statistics"}, default "auto"
        Whether rows are simulated, or the sufficient statistics themselves, at a cost that does not
        depend on the number of rows. ``"auto"`` takes those where it can: with one grouping factor.
        The two draw different data sets.
    lanes, workers : int, optional
        Fits in a batch, and batches at a time.
    mesh : jax.sharding.Mesh, optional
        Devices of this process to split every batch over.

    Returns
    -------
    ManyFits

    Raises
    ------
    LmmError
        An argument is not one of its choices, the parameters are of another model, statistics are
        asked for where they cannot be simulated, or the design does not determine some variance.

    Examples
    --------
    >>> import lmmjax as lj
    >>> frame = lj.simulate_design({"id": 50}, within={"time": range(5)})
    >>> design = lj.Design.from_formula("y ~ time + (1 + time | id)", frame)
    >>> truth = lj.TrueParameters.for_design(design, {"time": 3}, sd=[10, 2], sigma=5)
    >>> many = lj.fit_simulated(design, truth, 500, key=1)
    >>> len(many), bool(abs(many.beta[:, 1].mean() - 3) < 0.1)
    (500, True)
    """
    whole = all(isinstance(count, int | np.integer) for count in (replicates, first))
    if not whole or replicates < 1 or first < 0:
        raise LmmError(f"there are no {replicates} replicates from number {first} on")
    if by not in ("auto", "rows", "statistics"):
        raise LmmError(f"by must be 'auto', 'rows' or 'statistics', not {by!r}")
    design, prepared, reml = resolve(model, method)
    check_determined(design, prepared)
    chunks = fit_chunks(
        prepared,
        any_lane(prepared),
        simulated_source(design, prepared, parameters, key, by),
        replicates,
        first=first,
        reml=reml,
        lanes=lanes,
        workers=workers,
        mesh=mesh,
    )
    return ManyFits.collect(design, prepared, reml, [chunk.estimate for chunk in chunks])
