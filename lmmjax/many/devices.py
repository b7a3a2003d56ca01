"""A batch of lanes over several devices: each fits its own share, and none waits for another."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from lmmjax.errors import LmmError
from lmmjax.likelihood.crossproducts import CrossProducts
from lmmjax.many.engine import LaneFits, Lanes, Own, fit_lanes
from lmmjax.precision import double_precision


def fit_lanes_on(
    mesh: Mesh,
    lanes: Lanes,
    start: np.ndarray,
    radius: np.ndarray,
    leave: np.integer[Any],
    limit: np.integer[Any],
    *,
    reml: bool,
) -> LaneFits:
    """:func:`lmmjax.many.engine.fit_lanes` with the lanes' axis split over a mesh.

    Parameters
    ----------
    mesh : Mesh
        Devices of this process; all its axes together split the lanes, whose number is a multiple
        of the number of devices.
    lanes, start, radius, limit, reml
        As there.
    leave : int
        How many lanes may be left unfinished, on all devices together.

    Returns
    -------
    LaneFits
        NumPy arrays.
    """
    share = np.int32(int(leave) // mesh.size)
    with double_precision():
        fits = _compiled(mesh, reml)(lanes.shared, lanes.own, start, radius, share, limit)
        return jax.tree.map(np.asarray, fits)


def check_mesh(mesh: Mesh) -> None:
    """Refuse devices of other processes: every process fits a share of its own."""
    if not isinstance(mesh, Mesh):
        raise LmmError(f"mesh must be a jax.sharding.Mesh, not {type(mesh).__name__}")
    here = jax.process_index()
    if any(device.process_index != here for device in mesh.devices.flat):
        raise LmmError(
            "the mesh has devices of other processes. Give each process a mesh of "
            "jax.local_devices() and its own replicates (lj.replicate_share), then lj.gather"
        )


@lru_cache(maxsize=16)
def _compiled(mesh: Mesh, reml: bool) -> Any:
    split, whole = PartitionSpec(mesh.axis_names), PartitionSpec()

    def fit(
        shared: CrossProducts, own: Own, start: Any, radius: Any, leave: Any, limit: Any
    ) -> LaneFits:
        return fit_lanes(Lanes(shared, own), start, radius, leave, limit, reml)

    return jax.jit(
        jax.shard_map(
            fit,
            mesh=mesh,
            in_specs=(whole, split, split, split, whole, whole),
            out_specs=split,
            # The loops of different devices run different numbers of times.
            check_vma=False,
        )
    )
