"""Many fits in several processes, on one machine or several: shares, and putting them together.

A replicate's data follow from the study's key and its number alone, so a process needs no more than
the numbers of its share, and the study is the same however it is split.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from lmmjax.errors import LmmError
from lmmjax.many.fits import ManyFits
from lmmjax.precision import double_precision


def replicate_share(
    replicates: int, *, process: int | None = None, processes: int | None = None
) -> tuple[int, int]:
    """The replicates that a process is to fit.

    Parameters
    ----------
    replicates : int
        Of the whole study.
    process, processes : int, optional
        Number of the process, and how many there are; by default JAX's
        (``jax.distributed.initialize``), but those of a job array serve as well.

    Returns
    -------
    first, count : int
        For :func:`lmmjax.fit_simulated`.

    Raises
    ------
    LmmError
        There is no such process.

    Examples
    --------
    >>> [replicate_share(10, process=i, processes=3) for i in range(3)]
    [(0, 4), (4, 3), (7, 3)]
    """
    process = jax.process_index() if process is None else process
    processes = jax.process_count() if processes is None else processes
    if not 0 <= process < processes:
        raise LmmError(f"there is no process {process} among {processes}: they count from 0")
    each, more = divmod(replicates, processes)
    return process * each + min(process, more), each + (process < more)


def concatenate(parts: Sequence[ManyFits]) -> ManyFits:
    """Fits of consecutive replicates as one, in the order given.

    Parameters
    ----------
    parts : sequence of ManyFits
        Of one design, by one method.

    Returns
    -------
    ManyFits

    Raises
    ------
    LmmError
        There are none, or they are fits of different models.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
    >>> Y = fit.simulate(20, key=1)
    >>> lj.concatenate([lj.fit_many(fit, Y[:12]), lj.fit_many(fit, Y[12:])])
    <ManyFits: 20 fits, REML, 20 converged, 0 singular>
    """
    if not parts:
        raise LmmError("there are no fits to put together")
    head = parts[0]
    if any(part.names != head.names or part.reml != head.reml for part in parts):
        raise LmmError("fits of different models, or by different methods, cannot be put together")
    present = None
    if any(part.present is not None for part in parts):
        present = np.concatenate([_present(part) for part in parts])
    estimates = [part.estimate for part in parts]
    return ManyFits.collect(head.design, head.prepared, head.reml, estimates, present)


def _present(part: ManyFits) -> np.ndarray:
    if part.present is not None:
        return part.present
    return np.ones((len(part), part.design.X.shape[0]), bool)


def gather(part: ManyFits) -> ManyFits:
    """Put together the shares of all of JAX's processes; every process gets the whole.

    Parameters
    ----------
    part : ManyFits
        This process's share, from :func:`replicate_share`.

    Returns
    -------
    ManyFits
        All replicates, in order. With a single process, `part` itself.
    """
    if jax.process_count() == 1:
        return part
    from jax.experimental.multihost_utils import process_allgather

    with double_precision():
        counts = np.asarray(process_allgather(np.int64(len(part)))).reshape(-1)
        most = int(counts.max())

        def whole(x: np.ndarray) -> np.ndarray:
            # Shares differ by one in length: padded, gathered, and cut again.
            padded = np.concatenate([x, np.zeros((most - len(x), *x.shape[1:]), x.dtype)])
            every = np.asarray(process_allgather(padded)).reshape(len(counts), *padded.shape)
            return np.concatenate([e[:n] for e, n in zip(every, counts, strict=True)])

        estimate, present = jax.tree.map(whole, part.estimate), None
        if np.any(process_allgather(np.int64(part.present is not None))):
            present = whole(_present(part))
    return ManyFits(part.design, part.prepared, part.reml, estimate, present)
