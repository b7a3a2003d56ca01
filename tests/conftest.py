"""Fits that many tests read, made once a session; and a guard over JAX's global settings."""

import gc
import warnings

import jax
import pytest

import lmmjax as lj


class Fits:
    """Data sets and fits by what they are of."""

    def __init__(self):
        self._data = {}
        self._fits = {}

    def data(self, name):
        if name not in self._data:
            self._data[name] = lj.datasets.load(name)
        return self._data[name]

    def __call__(self, name, formula, method="REML", **kwargs):
        """The fit of a formula to a shipped data set; its warnings are looked at elsewhere."""
        key = (name, formula, method, *sorted((k, repr(v)) for k, v in kwargs.items()))
        if key not in self._fits:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", lj.LmmWarning)
                self._fits[key] = lj.lmm(formula, self.data(name), method=method, **kwargs)
        return self._fits[key]


@pytest.fixture(scope="module", autouse=True)
def _compiled_programs_are_dropped():
    """Every compiled program takes memory maps, of which a process may have 65,530."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="session")
def fits():
    return Fits()


@pytest.fixture
def sleep(fits):
    """The random-slope fit of sleepstudy."""
    return fits("sleepstudy", "Reaction ~ Days + (1 + Days | Subject)")


@pytest.fixture(autouse=True)
def _jax_settings_stay():
    """Nothing in the package, and no test, changes a global setting of JAX."""
    before = dict(jax.config.values)
    yield
    after = dict(jax.config.values)
    changed = {k: (before.get(k), v) for k, v in after.items() if before.get(k) != v}
    assert not changed


@pytest.fixture(scope="session")
def read():
    """R's account of a fit of tests/data/make_reading.R, and ours, by name."""
    from reading_cases import ARGUMENTS, R, data

    made = {}

    def get(name):
        if name not in made:
            dataset, formula, kwargs = ARGUMENTS[name]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", lj.LmmWarning)
                made[name] = lj.lmm(formula, data(dataset), **kwargs)
        return R[name], made[name]

    return get
