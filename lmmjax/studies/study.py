"""`power()`: simulate a design, fit, test, count."""

from __future__ import annotations

import os
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np

from lmmjax.arguments import check_share, check_whole
from lmmjax.inference.contrasts import check_method
from lmmjax.inference.identified import check_determined
from lmmjax.inference.kenward_roger import check_reml
from lmmjax.keywords import known_keywords
from lmmjax.many.fit_many import resolve
from lmmjax.many.fits import ManyFits
from lmmjax.many.runner import chunk_lanes, fit_chunks
from lmmjax.many.sources import any_lane, simulated_source
from lmmjax.simulation.normals import as_key
from lmmjax.simulation.parameters import TrueParameters
from lmmjax.studies.checkpoint import Checkpoint, fingerprint
from lmmjax.studies.criteria import Criterion, Found, criterion
from lmmjax.studies.likelihood_ratio import LikelihoodRatio, nested_pair
from lmmjax.studies.progress import Progress
from lmmjax.studies.tally import Tally
from lmmjax.studies.truth import true_parameters, warn_of_observed_power, words_of_draw

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.design import Design
    from lmmjax.result import LinearMixedModelResult

#: Batches between two looks at the clock, the interval and the checkpoint.
WINDOW = 8
#: Data sets before the first look at the interval, about.
FIRST_LOOK = 256
#: Replicates of a likelihood-ratio test that are simulated at once, and their rows together.
ROWS_AT_ONCE, CELLS_AT_ONCE = 1024, 1 << 25


@dataclass(frozen=True, eq=False, repr=False)
class PowerResult:
    """What a power study found; prints, and has one row as ``frame``.

    Attributes
    ----------
    test : str
    alpha : float
    tally : Tally
    truth : float or None
        True value of a single contrast.
    seconds : float
        What this run took (without what a checkpoint brought).
    drawn : tuple of str
        What of the design was drawn at random, once for all data sets.
    """

    test: str
    alpha: float
    tally: Tally
    truth: float | None
    seconds: float
    drawn: tuple[str, ...] = ()

    @property
    def power(self) -> float:
        """Share of replicates that reject."""
        return self.tally.rejected / self.tally.done

    @property
    def interval(self) -> tuple[float, float]:
        """Exact 95 % interval of the power."""
        return self.tally.interval()

    @property
    def frame(self) -> pd.DataFrame:
        """One row: power with its interval, and how the estimates behave.

        ``bias``, ``rmse`` and ``coverage`` (of 95 % intervals) are those of a single contrast;
        ``type_s`` is the share of rejections with the wrong sign, ``type_m`` by how much rejections
        exaggerate on average (Gelman & Carlin 2014).
        """
        import pandas as pd

        tally, (low, high) = self.tally, self.interval
        good, nan = max(tally.done - tally.failed, 1), float("nan")
        known, rejected = self.truth is not None, max(tally.rejected, 1)
        row = {
            "test": self.test,
            "power": self.power,
            "lower": low,
            "upper": high,
            "nsim": tally.done,
            "truth": self.truth if known else nan,
            "bias": tally.error_sum / good if known else nan,
            "rmse": float(np.sqrt(tally.error_squares / good)) if known else nan,
            "coverage": tally.covered / good if known else nan,
            "type_s": tally.wrong_sign / rejected if tally.exaggeration else nan,
            "type_m": tally.exaggeration / rejected if tally.exaggeration else nan,
            "singular": tally.singular / tally.done,
            "not_converged": tally.failed / tally.done,
        }
        return pd.DataFrame([row])

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.test}, power {self.power:.3f}>"

    def __str__(self) -> str:
        row = self.frame.iloc[0]
        tally, (low, high) = self.tally, self.interval
        lines = [
            f"Power of {self.test} at alpha = {self.alpha:g}: "
            f"{self.power:.1%} (95% interval {low:.1%} to {high:.1%}; {tally.done:,} data sets)"
        ]
        if self.truth is not None:
            lines.append(
                f"Estimate: truth {self.truth:g}, bias {row.bias:.3g}, RMSE {row.rmse:.3g}, "
                f"coverage {row.coverage:.1%}"
            )
        if tally.exaggeration:
            lines.append(
                f"Rejections: wrong sign {row.type_s:.1%}, exaggerate {row.type_m:.2f} times"
            )
        lines.append(f"Fits: {row.singular:.1%} singular, {row.not_converged:.1%} not converged")
        if tally.failed:
            lines[-1] += " (counted as not rejecting)"
        return "\n".join(lines + words_of_draw(self.drawn))


@known_keywords
def power(
    model: Design | LinearMixedModelResult,
    parameters: TrueParameters | None = None,
    test: Any = None,
    *,
    alpha: float = 0.05,
    nsim: int = 1000,
    ddf: Literal["satterthwaite", "kenward-roger", "asymptotic"] = "satterthwaite",
    method: Literal["REML", "ML"] | None = None,
    key: Any = 0,
    stop_width: float | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    cell: str = "study",
) -> PowerResult:
    """Power of a test, by simulation.

    Parameters
    ----------
    model : Design or LinearMixedModelResult
        The design (``lj.Design.from_formula``, :func:`lmmjax.extend`), or a pilot fit.
    parameters : TrueParameters, optional
        What is true, matched to the design by name; by default the fit's estimates.
    test : str, sequence of str, array, LikelihoodRatio or callable
        A coefficient or a hypothesis (``"time"``, ``"time = 1"``), several for an F test,
        contrasts' weights, :class:`LikelihoodRatio`, or a function of ``lj.ManyFits`` that gives
        a p value of each fit (floats; NaN does not reject) or whether it rejects (booleans, to
        which `alpha` does not apply). By default the last coefficient.
    alpha : float, default 0.05
        Level of the test.
    nsim : int, default 1000
        Data sets at most.
    ddf : {"satterthwaite", "kenward-roger", "asymptotic"}, default "satterthwaite"
        Degrees of freedom of t and F tests.
    method : {"REML", "ML"}, optional
        By default that of the fit, or REML.
    key : int or Array, default 0
        A seed, or a JAX random key.
    stop_width : float, optional
        Stop as soon as the power's 95 % interval is narrower than this. It is looked at after the
        first few hundred data sets, at each doubling, and then every few batches.
    progress : bool, default False
        Whether to show how far it is.
    checkpoint : path, optional
        A file to go on from, and to keep after every few batches; a larger `nsim` adds to it. A
        user's function is known there by its code and the plain values that it uses.
    cell : str
        Name of the study in the file.

    Returns
    -------
    PowerResult

    Raises
    ------
    LmmError
        An argument is not possible, the parameters are of another model, or the checkpoint is of
        another study.

    Warns
    -----
    LmmWarning
        What is tested has the true value that the fit has estimated: observed power says no more
        than its p value.

    Notes
    -----
    A design is fixed: dropout and covariates that were drawn for it are the same in all data sets,
    and the result says so. How power varies between draws is seen by :func:`lmmjax.power_curve` of
    a function that takes the seed, with ``along={"seed": range(20)}``.

    Hoenig & Heisey (2001), Am. Statist. 55, 19-24, on observed power.

    Examples
    --------
    >>> import lmmjax as lj
    >>> frame = lj.simulate_design({"id": 20}, within={"time": range(5)})
    >>> design = lj.Design.from_formula("y ~ time + (1 + time | id)", frame)
    >>> truth = lj.TrueParameters.for_design(design, {"time": 1}, sd=[3, 1], sigma=4)
    >>> found = lj.power(design, truth, "time", nsim=2000, key=1)
    >>> found.tally.done, 0.6 < found.power < 0.95
    (2000, True)
    """
    check_share("alpha", alpha)
    nsim = check_whole("nsim", nsim, 1)
    if stop_width is not None:
        check_share("stop_width", stop_width)
    design, prepared, reml = resolve(model, method)
    check_determined(design, prepared)
    ddf = check_method(ddf)  # type: ignore[assignment]
    if ddf == "kenward-roger":
        check_reml(reml)
    parameters = true_parameters(model, parameters, design)
    names = tuple(design.x_names)
    test = names[-1] if test is None else test
    if isinstance(test, LikelihoodRatio):
        pair = nested_pair(model, test.smaller)
        identity = (resolve(test.smaller, "ML")[1],)
        wanted = Criterion(pair.label, lambda many: Found(np.empty(0)), identity=identity)
        batches = pair.batches(parameters, key)
        most = max(8, CELLS_AT_ONCE // design.X.shape[0])
        first = step = min(
            ROWS_AT_ONCE if stop_width is None else FIRST_LOOK, 1 << (most.bit_length() - 1)
        )
    else:
        wanted = criterion(test, names, parameters, ddf)
        shared = any_lane(prepared)
        source = simulated_source(design, prepared, parameters, key)
        # At this number of data sets the interval of a power of one half is as wide as wanted.
        enough = nsim if stop_width is None else max(FIRST_LOOK, int(4.0 / stop_width**2))
        lanes = chunk_lanes(shared, min(nsim, enough), source.rows)
        first, step = lanes, WINDOW * lanes

        def fits_and_tests(first: int, count: int) -> tuple[ManyFits, Found]:
            chunks = fit_chunks(
                prepared, shared, source, count, first=first, reml=reml, lanes=lanes
            )
            many = ManyFits.collect(design, prepared, reml, [c.estimate for c in chunks])
            return many, wanted.run(many)

        batches = fits_and_tests

    warn_of_observed_power(model, parameters, wanted.weights)
    kept = Checkpoint(checkpoint) if isinstance(checkpoint, str | os.PathLike) else checkpoint
    key_data = np.asarray(jax.random.key_data(as_key(key)))
    study = fingerprint(
        prepared, parameters, key_data, alpha, wanted.label, wanted.identity, ddf, reml
    )
    tally = kept.read(cell, study) if kept else Tally()
    began = time.monotonic()
    with closing(Progress(nsim, cell, progress, initial=tally.done)) as bar:
        while tally.done < nsim and not _narrow(tally, stop_width):
            # Looks come at each doubling, until batches are as large as is quickest.
            grown = step if stop_width is None else min(step, max(first, tally.done))
            count = min(grown, nsim - tally.done)
            many, found = batches(tally.done, count)
            tally.add(many, found, wanted, alpha)
            bar.add(count)
            if kept:
                kept.write(cell, study, tally)
    seconds = time.monotonic() - began
    return PowerResult(wanted.label, alpha, tally, wanted.truth, seconds, design.drawn)


def _narrow(tally: Tally, width: float | None) -> bool:
    if width is None or not tally.done:
        return False
    low, high = tally.interval()
    return high - low < width
