"""Compiled kernels: on disk between processes, optional, and never a reason for a fit to fail."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lmmjax as lj
from lmmjax import compiled
from lmmjax.compiled import Kernel, cache_directory, clear_cache, source_digest
from lmmjax.covariance import Diagonal
from lmmjax.errors import LmmError, LmmWarning

SCRIPT = """
import lmmjax as lj
fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
print(repr(fit.criterion), fit.df.iloc[0])
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv("LMMJAX_CACHE", raising=False)
    monkeypatch.setenv("LMMJAX_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiled, "_jax_keeps_executables", lambda: False)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    # What comes out of JAX's own cache cannot be stored again: nothing of these tests goes in.
    before = jax.config.values["jax_persistent_cache_min_compile_time_secs"]
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)
    yield tmp_path
    jax.config.update("jax_persistent_cache_min_compile_time_secs", before)


#: Of a length that another run of these tests is not likely to have, whose programs JAX may keep.
NUMBERS = np.arange(1000.0 + int.from_bytes(os.urandom(2)))


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
        equivariance = "none"

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


class Planted:
    """A file that runs code as soon as it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def planted(folder: Path, mark: Path) -> Path:
    """The program of a kernel in `folder`, replaced by one that leaves a mark when loaded."""
    Kernel(double)(NUMBERS)
    (file,) = folder.glob("double-*.exe")
    file.write_bytes(pickle.dumps(Planted(mark)))
    return file


def computed(folder: Path) -> bool:
    """Whether a kernel gives its numbers in silence."""
    compiled._warn_not_private.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            found = Kernel(double)(NUMBERS)["twice"]
    np.testing.assert_array_equal(found, 2 * NUMBERS)
    assert len(caught) <= 1  # Said once, not at each program.
    if caught:
        assert caught[0].category is LmmWarning
        assert str(folder) in str(caught[0].message)
    return not caught


def test_a_planted_program_would_run(folder: Path, tmp_path: Path) -> None:
    """What the tests below look for does happen where the folder is private."""
    mark = tmp_path / "mark"
    planted(folder, mark)
    Kernel(double)(NUMBERS)
    assert mark.exists()


@pytest.mark.skipif(os.name != "posix", reason="owners and modes of files are PONUMBERS's")
def test_nothing_is_loaded_from_a_folder_that_is_not_private(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    cache = tmp_path / "cache"
    monkeypatch.setenv("LMMJAX_CACHE_DIR", str(cache))
    file = planted(cache, mark)
    assert cache.stat().st_mode & 0o777 == 0o700
    assert file.stat().st_mode & 0o077 == 0

    # Others could write to it.
    for mode in (0o770, 0o702, 0o1777):
        cache.chmod(mode)
        assert not computed(cache)
        assert cache.stat().st_mode & 0o7777 == mode
    with pytest.raises(LmmError, match="not yours alone"):
        clear_cache()
    # Others could look into it, where there is more than programs.
    cache.chmod(0o755)
    (cache / "notes.txt").write_text("for all to read")
    assert not computed(cache)
    (cache / "notes.txt").unlink()
    cache.chmod(0o700)
    # It is another user's.
    with monkeypatch.context() as other:
        other.setattr(os, "geteuid", lambda: cache.stat().st_uid + 1)
        assert not computed(cache)
    # A link stands in its place.
    link = tmp_path / "link"
    link.symlink_to(cache)
    monkeypatch.setenv("LMMJAX_CACHE_DIR", str(link))
    assert not computed(link)
    monkeypatch.setenv("LMMJAX_CACHE_DIR", str(cache))
    # The folder is private, the file in it is not: a link of either kind, or open to others.
    elsewhere = tmp_path / "elsewhere.exe"
    shutil.move(file, elsewhere)
    file.symlink_to(elsewhere)
    assert computed(cache)
    file.unlink()
    os.link(elsewhere, file)
    assert computed(cache)
    file.unlink()
    elsewhere.unlink()
    planted(cache, mark).chmod(0o622)
    assert computed(cache)
    assert not mark.exists()


@pytest.mark.skipif(os.name != "posix", reason="owners and modes of files are PONUMBERS's")
def test_a_cache_that_others_can_only_look_into_is_closed_to_them(folder: Path) -> None:
    Kernel(double)(NUMBERS)
    folder.chmod(0o755)
    assert computed(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_every_file_of_the_package_decides_which_programs_are_its_own(tmp_path: Path) -> None:
    """A function may be moved to any file, new ones too: old programs must not answer for it."""
    package = tmp_path / "lmmjax"
    shutil.copytree(Path(lj.__file__).parent, package, ignore=shutil.ignore_patterns("*.pyc"))
    digest = source_digest.__wrapped__
    before = digest(package)
    assert before == source_digest(Path(lj.__file__).parent)
    for file in package.rglob("*.py"):
        content = file.read_bytes()
        file.write_bytes(content + b"#")
        assert digest(package) != before, file
        file.write_bytes(content)
    assert digest(package) == before
    (package / "new").mkdir()
    (package / "new" / "room.py").write_text("")
    assert digest(package) != before
    # Installed without its sources there is nothing to tell versions apart by.
    assert digest(tmp_path / "nothing") is None


def test_programs_named_by_an_address_are_not_kept(folder: Path) -> None:
    def scaled(x: jnp.ndarray, *, by) -> jnp.ndarray:
        return by(x)

    np.testing.assert_array_equal(Kernel(scaled)(np.arange(3.0), by=lambda x: 3 * x), [0, 3, 6])
    assert list(folder.glob("*.exe")) == []


def test_programs_are_let_go_before_memory_maps_run_out(monkeypatch):
    """XLA ends the process where there are none left."""
    one, other = Kernel(lambda x: x + 1.0), Kernel(lambda x: x * 2.0)
    x = np.arange(3.0)
    one(x)
    assert one._loaded
    monkeypatch.setattr(compiled, "MAX_MAPS", 0)
    np.testing.assert_array_equal(other(x), 2.0 * x)
    assert not one._loaded
    np.testing.assert_array_equal(one(x), x + 1.0)
