"""Every minimiser reaches the same optimum; wrong ones are refused before any computing."""

from __future__ import annotations

import numpy as np
import pytest

import lmmjax as lj
from lmmjax.optimize.external import check_optimizer

FORMULA = "Reaction ~ Days + (1 + Days | Subject)"


def unbalanced():
    """Without some rows: on a balanced design the moment start is the optimum already."""
    return lj.datasets.load("sleepstudy").drop(index=[3, 14, 15, 16, 70, 71, 100])


@pytest.fixture(scope="module")
def exact() -> lj.LinearMixedModelResult:
    return lj.lmm(FORMULA, unbalanced())


@pytest.mark.parametrize("name", ["lbfgs", "scipy:BFGS", "scipy:L-BFGS-B", "scipy:CG"])
def test_named_minimisers_agree_with_newton(name: str, exact: lj.LinearMixedModelResult) -> None:
    fit = lj.lmm(FORMULA, unbalanced(), optimizer=name)
    assert fit.converged
    assert fit.optimizer_summary.optimizer == name
    assert fit.criterion == pytest.approx(exact.criterion, abs=1e-9)
    np.testing.assert_allclose(fit.theta, exact.theta, rtol=1e-6)
    np.testing.assert_allclose(fit.df, exact.df, rtol=1e-6)


def test_any_optax_transformation(exact: lj.LinearMixedModelResult) -> None:
    import optax

    fit = lj.lmm(FORMULA, unbalanced(), optimizer=optax.adam(0.02))
    assert fit.converged
    np.testing.assert_allclose(fit.theta, exact.theta, rtol=1e-6)


def test_a_minimiser_that_stops_early_is_reported() -> None:
    import optax

    with pytest.warns(lj.LmmWarning, match="did not converge"):
        fit = lj.lmm(FORMULA, unbalanced(), optimizer=optax.sgd(1e-9))
    assert not fit.converged


@pytest.mark.parametrize("wrong", ["bobyqa", "scipy:magic", 3, None])
def test_unknown_minimisers_are_refused(wrong: object) -> None:
    with pytest.raises(lj.LmmError, match="optimizer"):
        check_optimizer(wrong)


def test_transformations_made_alike_share_what_is_compiled() -> None:
    """``optax.adam(0.02)`` makes new closures at each call; their content is what counts."""
    import optax

    from lmmjax.optimize.external import _run_optax, _Transformation

    def adam(rate: float) -> _Transformation:
        return _Transformation(optax.adam(optax.cosine_decay_schedule(rate, 500)))

    assert adam(0.02) == adam(0.02)
    assert hash(adam(0.02)) == hash(adam(0.02))
    assert adam(0.02) != adam(0.03)
    assert _Transformation(optax.adam(0.02)) != _Transformation(optax.adamw(0.02))
    lj.lmm(FORMULA, unbalanced(), optimizer=optax.adam(0.02))
    before = _run_optax._cache_size()
    fits = [lj.lmm(FORMULA, unbalanced(), optimizer=optax.adam(0.02)) for _ in range(2)]
    assert _run_optax._cache_size() == before
    assert fits[0].criterion == fits[1].criterion
