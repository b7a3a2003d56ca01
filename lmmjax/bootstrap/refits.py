"""Many responses on a fit's design, with a bar that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lmmjax.likelihood.crossproducts import cross_products
from lmmjax.many.fits import ManyFits
from lmmjax.many.runner import fit_chunks
from lmmjax.many.sources import response_source

if TYPE_CHECKING:
    from lmmjax.result import LinearMixedModelResult
    from lmmjax.studies.progress import Progress


def refit_responses(fit: LinearMixedModelResult, Y: np.ndarray, bar: Progress) -> ManyFits:
    """Fit complete responses, shape (replicates, n), batch after batch."""
    prepared = fit.raw.prepared
    shared = cross_products(prepared, Y[0])
    parts = []
    for chunk in fit_chunks(prepared, shared, response_source(prepared, Y), len(Y), reml=fit.reml):
        parts.append(chunk.estimate)
        bar.add(len(chunk.estimate.criterion))
    return ManyFits.collect(fit.design, prepared, fit.reml, parts)
