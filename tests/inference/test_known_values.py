"""Single values that lmerTest gives, of models that are not among the reference fits."""

import numpy as np
import pytest
from numpy.testing import assert_allclose


@pytest.mark.slow
def test_both_slopes_of_a_quadratic(fits):
    fit = fits("sleepstudy", "Reaction ~ Days + I(Days**2) + (1 | Subject) + (0 + Days | Subject)")
    test = fit.contest(np.eye(3)[1:])
    found = test[["F value", "NumDF", "DenDF"]].to_numpy()[0]
    assert_allclose(found, [23.36099, 2, 54.40750], rtol=1e-6)
    by_name = fit.contest("Days = 0, I(Days ** 2) = 0")
    assert_allclose(by_name["F value"], found[:1])
