"""What the wild bootstrap cannot tell: how estimates of variances vary.

All residuals of a group are multiplied by one number w, of which ``w^2`` has mean 1 and variance 1
(Mammen's two points). A sum of squares within groups of n independent rows then varies as if it
were ``sigma^2 n w^2``, with variance ``n^2 sigma^4``, where it has ``2 n sigma^4``: n / 2 times too
much. One between groups has ``E b^4 = 3`` for ``E b^4 - 1 = 2``. Intervals of the residual
standard deviation cover always, the others too often.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lmmjax.bootstrap.statistic import Statistic, evaluate
from lmmjax.many.fits import ManyFits

#: Why, and what serves instead.
REASON = "one number multiplies all residuals of a group, and their squares vary too much"
INSTEAD = "use kind='parametric', 'residual' or 'cases'"
#: Relative change of a statistic that is none.
ROUNDING = 1e-9


def of_variances(
    statistic: Statistic | None, one: ManyFits, original: Mapping[str, float]
) -> list[str]:
    """Names of the statistics that are other ones with other variances, all else alike.

    Parameters
    ----------
    statistic : callable or None
    one : ManyFits
        A single fit.
    original : mapping
        Its statistics by name.
    """
    fixed, solution = one.estimate.fixed, one.estimate.solution
    factors = []
    for factor in one.estimate.factors:
        k = factor.shape[-1]
        mixing = np.eye(k) + np.tril(np.full((k, k), 0.3))
        factors.append(mixing @ (np.asarray(factor) + 0.1 * np.eye(k)))
    other = ManyFits(
        one.design,
        one.prepared,
        one.reml,
        one.estimate._replace(
            solution=solution._replace(theta=np.asarray(solution.theta) + 0.1),
            fixed=fixed._replace(sigma=1.3 * np.asarray(fixed.sigma)),
            factors=tuple(factors),
        ),
    )
    moved = evaluate(statistic, other)
    return [
        name
        for name, value in original.items()
        if not np.isclose(moved[name][0], value, rtol=ROUNDING, atol=0.0, equal_nan=True)
    ]
