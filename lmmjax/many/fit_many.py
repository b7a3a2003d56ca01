"""`fit_many()`: one design, many responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lmmjax.errors import DataError, LmmError
from lmmjax.fitting import prepare_design
from lmmjax.likelihood.crossproducts import Prepared, cross_products
from lmmjax.many.fits import ManyFits
from lmmjax.many.runner import fit_chunks
from lmmjax.many.sources import response_source

if TYPE_CHECKING:
    from lmmjax.design import Design
    from lmmjax.result import LinearMixedModelResult


def fit_many(
    model: Design | LinearMixedModelResult,
    Y: Any,
    *,
    method: Literal["REML", "ML"] | None = None,
    lanes: int | None = None,
    workers: int | None = None,
) -> ManyFits:
    """Fit one model to many responses.

    Parameters
    ----------
    model : Design or LinearMixedModelResult
        The design that the responses share: from :func:`lmmjax.build_design`,
        ``lj.Design.from_formula``, or of a fit (with its covariance structures and method).
    Y : array, shape (replicates, n)
        A response in each row.
    method : {"REML", "ML"}, optional
        By default that of the fit, or REML.
    lanes : int, optional
        Fits in a batch. The results do not depend on it; memory does.
    workers : int, optional
        Batches at a time; by default one for each processor.

    Returns
    -------
    ManyFits
        Estimates, standard errors, degrees of freedom, p values, status of each.

    Raises
    ------
    DataError
        `Y` does not have the design's rows, or holds values that are not finite.
    LmmError
        The method is neither "REML" nor "ML".

    Notes
    -----
    Only ``Z'y``, ``X'y`` and ``y'y`` differ between the fits, and groups whose design rows are
    alike count once: on a balanced design a fit costs the same for 50 groups and for 5,000.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
    >>> many = lj.fit_many(fit, fit.simulate(20, key=1))
    >>> many.beta.shape, many.converged.all()
    ((20, 2), np.True_)
    """
    design, prepared, reml = resolve(model, method)
    Y = checked_responses(Y, design.X.shape[0])
    shared = cross_products(prepared, Y[0])
    chunks = fit_chunks(
        shared,
        response_source(prepared, Y),
        len(Y),
        reml=reml,
        lanes=lanes,
        workers=workers,
    )
    return ManyFits.collect(design, prepared, reml, [chunk.estimate for chunk in chunks])


def resolve(
    model: Design | LinearMixedModelResult, method: str | None
) -> tuple[Design, Prepared, bool]:
    """The design of a model, ready for cross-products, and whether to fit by REML."""
    if method not in (None, "REML", "ML"):
        raise LmmError(f"method must be 'REML' or 'ML', not {method!r}")
    if hasattr(model, "raw"):  # a fit
        reml = model.raw.reml if method is None else method == "REML"  # type: ignore[union-attr]
        return model.design, model.raw.prepared, reml  # type: ignore[union-attr]
    if not hasattr(model, "terms"):
        raise LmmError(
            "the model must be a Design (lj.build_design, lj.Design.from_formula) or a fit, not "
            f"{type(model).__name__}"
        )
    return model, prepare_design(model), method != "ML"  # type: ignore[return-value]


def checked_responses(Y: Any, n: int) -> np.ndarray:
    """Responses as an array of shape (replicates, n), finite."""
    Y = np.asarray(Y)
    if Y.dtype.kind not in "iuf":
        raise DataError(f"the responses must be numeric, not {Y.dtype}")
    if Y.ndim != 2 or Y.shape[1] != n or not len(Y):
        raise DataError(
            f"the responses have shape {Y.shape}; give one response a row, (replicates, {n})"
        )
    Y = np.asarray(Y, np.float64)
    finite = np.isfinite(Y).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{np.count_nonzero(~finite)} of {len(Y)} responses hold values that are not finite, "
            f"the first of them in row {int(np.argmin(finite))}"
        )
    flat = np.flatnonzero(Y.min(axis=1) == Y.max(axis=1))
    if flat.size:
        raise DataError(
            f"{flat.size} of {len(Y)} responses have no variance, the first of them in row "
            f"{flat[0]}"
        )
    return Y
