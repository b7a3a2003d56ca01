"""Compiled kernels: on disk between processes, optional, and never a reason for a fit to fail."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import lmmjax as lj
from lmmjax import compiled
from lmmjax.compiled import Kernel, cache_directory, clear_cache
from lmmjax.covariance import Diagonal

SCRIPT = """
import lmmjax as lj
fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
print(repr(fit.criterion), fit.df.iloc[0])
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("LMMJAX_CACHE", raising=False)
    monkeypatch.setenv("LMMJAX_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiled, "_jax_keeps_executables", lambda: False)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    return tmp_path


def double(x: jnp.ndarray, *, shift: float = 0.0) -> dict[str, jnp.ndarray]:
    return {"twice": 2.0 * x + shift, "count": jnp.int32(x.shape[0])}


def test_result_layout_and_precision(folder: Path) -> None:
    kernel = Kernel(double)
    found = kernel(np.array([1.0, 1.0 / 3.0]), shift=1.0)
    np.testing.assert_array_equal(found["twice"], [3.0, 2.0 / 3.0 + 1.0])
    assert found["twice"].dtype == np.float64
    assert found["count"] == 2
    assert found["count"].dtype == np.int32
    assert len(list(folder.glob("double-*.exe"))) == 1


def test_a_damaged_file_is_compiled_anew(folder: Path) -> None:
    x = np.arange(4.0)
    Kernel(double)(x)
    (file,) = folder.glob("double-*.exe")
    file.write_bytes(b"not an executable")
    np.testing.assert_array_equal(Kernel(double)(x)["twice"], 2 * x)
    assert file.stat().st_size > 100


def test_prefetch_compiles_in_the_background(folder: Path) -> None:
    kernel = Kernel(double)
    thread = kernel.prefetch(np.arange(5.0))
    assert isinstance(thread, threading.Thread)
    thread.join()
    assert len(list(folder.glob("double-*.exe"))) == 1
    np.testing.assert_array_equal(kernel(np.arange(5.0))["twice"], 2 * np.arange(5.0))


def test_off_and_unwritable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMMJAX_CACHE", "0")
    assert cache_directory() is None
    Kernel(double)(np.arange(3.0))
    assert list(folder.iterdir()) == []
    monkeypatch.setenv("LMMJAX_CACHE", "1")
    blocked = folder / "file"
    blocked.write_text("a file where the folder should be")
    monkeypatch.setenv("LMMJAX_CACHE_DIR", str(blocked))
    np.testing.assert_array_equal(Kernel(double)(np.arange(2.0))["twice"], [0.0, 2.0])


def test_structures_of_a_user_are_not_kept_on_disk(folder: Path) -> None:
    """The file name cannot know their code: an edited class would get the old executable."""

    class Halved(Diagonal):
        def factor(self, theta: jnp.ndarray) -> jnp.ndarray:
            return super().factor(theta) / 2

    df = lj.datasets.load("Dyestuff")
    fit = lj.lmm("Yield ~ 1 + (1 | Batch)", df, covariance={"Batch": Halved(1)})
    assert fit.converged
    assert list(folder.glob("estimate-*.exe")) == []


def test_beside_the_cache_of_jax_nothing_is_stored_twice(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder / "jax"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    for _ in range(2):
        run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert run.stdout.startswith("319.654276842")
    assert list(folder.glob("*.exe")) == []


def test_another_process_gets_the_same_numbers(folder: Path) -> None:
    runs = [
        subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout
    assert runs[0].stdout.startswith("319.654276842")
    assert len(list(folder.glob("estimate-*.exe"))) == 1
    assert clear_cache() == 1
