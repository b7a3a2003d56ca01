"""Power of the likelihood-ratio test of a variance: against an exact F of balanced data."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import f

import lmmjax as lj

SCHOOLS, CLASSES, PUPILS, NSIM = 30, 2, 4, 1024


def chance(edge, tau):
    """P(LR > edge) for classes in schools that differ much, by the F of balanced data's strata."""
    above, below = SCHOOLS * (CLASSES - 1), SCHOOLS * CLASSES * (PUPILS - 1)

    def ratio(F):
        # Deviances by maximum likelihood: one variance for both strata, or one each.
        pooled = (above * F + below) / (above + below)
        return (above + below) * np.log(pooled) - above * np.log(F)

    return f.sf(brentq(lambda F: ratio(F) - edge, 1.0, 100) / (1 + PUPILS * tau**2), above, below)


@pytest.mark.parametrize("tau", [0.0, 0.4])
def test_power_for_a_variance_is_the_exact_one(tau):
    frame = lj.simulate_design({"school": SCHOOLS}, PUPILS, nested={"class": CLASSES})
    large = lj.Design.from_formula("y ~ 1 + (1 | school) + (1 | class)", frame)
    small = lj.Design.from_formula("y ~ 1 + (1 | school)", frame)
    sd = {"school": 3.0, "class": tau}
    what = lj.TrueParameters.for_design(large, {}, sd=sd, sigma=1.0)
    found = lj.power(large, what, lj.LikelihoodRatio(small), nsim=NSIM, key=1)
    exact = chance(2.7055, tau)  # the mixture's 5 %
    assert abs(found.power - exact) < 4 * np.sqrt(exact * (1 - exact) / NSIM)
    if not tau:  # half chi² is that of many groups; chi² would reject less than half as often
        assert chance(3.8415, 0.0) < 0.025 < 0.035 < exact < 0.05
