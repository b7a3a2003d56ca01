"""Single values that lmerTest gives, of models that are not among the reference fits."""

import numpy as np
import pytest
from numpy.testing import assert_allclose


@pytest.mark.slow
def test_both_slopes_of_a_quadratic(fits):
    fit = fits("sleepstudy", "Reaction ~ Days + I(Days**2) + (1 | Subject) + (0 + Days | Subject)")
    test = fit.contest(np.eye(3)[1:])
    found = test[["F value", "NumDF", "DenDF"]].to_numpy()[0]
    # contest(m, L / se[2:3]): rows in different units are brought to unit standard error. As given
    # lmerTest has 54.4, 37.8 and 31.0 df for Days in days, in tens and in hundreds of days.
    assert_allclose(found, [23.36099, 2, 36.73721], rtol=1e-6)
    by_name = fit.contest("Days = 0, I(Days ** 2) = 0")
    assert_allclose(by_name["F value"], found[:1])
