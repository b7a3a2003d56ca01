"""Running counts of a power study: all that a checkpoint has to keep."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from lmmjax.many.fits import ManyFits
from lmmjax.studies.criteria import Criterion, Found


@dataclass
class Tally:
    """Sums over the replicates so far.

    Attributes
    ----------
    done, rejected, failed, singular : int
        Replicates; those that reject; that did not converge, in any model that the test needs (and
        count as not rejecting); that are singular.
    error_sum, error_squares : float
        Of a contrast's estimate minus its true value, over the converged ones.
    covered : int
        95 % intervals that hold the true value.
    wrong_sign : int
        Rejections with an estimate on the other side of the null value.
    exaggeration : float
        Sum of |estimate - null| / |truth - null| over the rejections.
    """

    done: int = 0
    rejected: int = 0
    failed: int = 0
    singular: int = 0
    error_sum: float = 0.0
    error_squares: float = 0.0
    covered: int = 0
    wrong_sign: int = 0
    exaggeration: float = 0.0

    def add(self, many: ManyFits, found: Found, criterion: Criterion, alpha: float) -> None:
        """Count a batch of replicates."""
        good = many.converged
        if found.converged is not None:
            good = good & found.converged
        rejects = good & found.rejects(alpha)
        self.done += len(many)
        self.rejected += int(np.count_nonzero(rejects))
        self.failed += int(np.count_nonzero(~good))
        self.singular += int(np.count_nonzero(many.singular))
        if criterion.truth is None or found.estimate is None or found.half_width is None:
            return
        error = (found.estimate - criterion.truth)[good]
        self.error_sum += float(error.sum())
        self.error_squares += float(np.sum(error**2))
        self.covered += int(np.count_nonzero(np.abs(error) <= found.half_width[good]))
        effect = criterion.truth - criterion.null
        if effect != 0.0:
            ratio = (found.estimate[rejects] - criterion.null) / effect
            self.wrong_sign += int(np.count_nonzero(ratio < 0))
            self.exaggeration += float(np.sum(np.abs(ratio)))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Exact interval of the power.

        Notes
        -----
        Clopper & Pearson (1934), Biometrika 26, 404-413.
        """
        from scipy.special import betaincinv

        x, n, tail = self.rejected, self.done, 0.5 - level / 2
        low = float(betaincinv(x, n - x + 1, tail)) if x else 0.0
        high = float(betaincinv(x + 1, n - x, 1 - tail)) if x < n else 1.0
        return low, high

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)
