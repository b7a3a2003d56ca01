"""Compiled functions of the front end, kept in memory and on disk.

Compile time is part of the user's wait: a first fit would spend seconds in XLA. A :class:`Kernel`
stores the finished executable, so a later process skips tracing, lowering and compiling. Pure
functions that users call under their own ``jit`` do not pass through here.

Turn the cache on disk off with the environment variable ``LMMJAX_CACHE=0``; move it with
``LMMJAX_CACHE_DIR``.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import platform
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np
from jax.experimental.xla_metadata import set_xla_metadata

from lmmjax.likelihood.products import written_out
from lmmjax.precision import double_precision

#: Multiplications up to which a product is written out in a program that is one kernel.
WRITTEN_OUT = 100_000
#: The mark for such a program is XLA's own and not documented: a version that has not been tried
#: is not given it.
KNOWN_VERSION = jaxlib.version.__version__.startswith("0.10.")
#: The code that kernels are traced from.
CODE = (
    "compiled.py",
    "covariance.py",
    "estimate.py",
    "likelihood",
    "optimize",
    "inference",
    "many",
    "simulation",
    "studies",
)
#: Executables that a function keeps in memory: each takes some of the memory maps that a process
#: may have, and XLA aborts where there are none left.
MAX_LOADED = 128
#: Executables kept on disk; the ones longest unused go first.
MAX_FILES = 300


def cache_directory() -> Path | None:
    """Folder of the compiled functions, or None where the cache on disk is turned off."""
    if os.environ.get("LMMJAX_CACHE", "1").lower() in {"0", "off", "false", "no"}:
        return None
    if chosen := os.environ.get("LMMJAX_CACHE_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lmmjax"


def clear_cache() -> int:
    """Delete all compiled functions on disk.

    Returns
    -------
    int
        How many there were.

    Examples
    --------
    With the cache turned off there is nothing to delete:

    >>> from unittest import mock
    >>> with mock.patch.dict("os.environ", LMMJAX_CACHE="0"):
    ...     clear_cache()
    0
    """
    folder = cache_directory()
    files = list(folder.glob("*.exe")) if folder and folder.is_dir() else []
    for file in files:
        file.unlink(missing_ok=True)
    return len(files)


@cache
def _environment() -> str:
    """Everything but the shapes that an executable depends on."""
    package = Path(__file__).parent
    source = hashlib.sha256()
    for part in CODE:
        place = package / part
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            source.update(file.read_bytes())
    device = jax.devices()[0]
    processor = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor += next((x for x in lines if x.startswith("flags")), "")
    except OSError:
        pass
    parts = (
        source.hexdigest(),
        jax.__version__,
        jaxlib.version.__version__,
        device.platform,
        device.device_kind,
        platform.machine(),
        processor,
        os.environ.get("XLA_FLAGS", ""),
    )
    return "|".join(parts)


@cache
def _ready_to_load() -> None:
    # An executable that calls LAPACK needs its entry points, which JAX looks up when it lowers
    # such a call.
    jax.jit(jax.lax.linalg.cholesky).lower(jax.ShapeDtypeStruct((1, 1), np.float32))


def _pack(tree: Any) -> jax.Array:
    """All leaves as one vector: one result buffer to hand over instead of twenty."""
    leaves = [jnp.ravel(leaf).astype(jnp.float64) for leaf in jax.tree.leaves(tree)]
    return jnp.concatenate(leaves)


class _Layout:
    """How to take a packed vector apart again."""

    def __init__(self, tree: Any) -> None:
        leaves, self.treedef = jax.tree.flatten(tree)
        ends = np.cumsum([leaf.size for leaf in leaves]).tolist()
        # Where each leaf lies, its shape, and its type unless it is packed as it is.
        self.places = [
            (
                slice(end - leaf.size, end) if leaf.ndim else end - 1,
                leaf.shape,
                None if leaf.dtype == np.float64 else np.dtype(leaf.dtype).type,
            )
            for leaf, end in zip(leaves, ends, strict=True)
        ]

    def unpack(self, packed: np.ndarray) -> Any:
        leaves = []
        for place, shape, dtype in self.places:
            leaf = packed[place]
            if len(shape) > 1:
                leaf = leaf.reshape(shape)
            leaves.append(leaf if dtype is None else leaf.astype(dtype))
        return self.treedef.unflatten(leaves)


def _jax_keeps_executables() -> bool:
    """Whether JAX's persistent cache is on: what comes out of it cannot be stored again."""
    return bool(getattr(jax.config, "jax_compilation_cache_dir", None))


def _has_foreign_structures(args: Any) -> bool:
    structures = (s for arg in args for bars in getattr(arg, "structures", ()) for s in bars)
    return any(not type(s).__module__.startswith("lmmjax.") for s in structures)


class Kernel:
    """A pure function compiled ahead of time, in 64 bits, for each shape of its arguments.

    Parameters
    ----------
    function : callable
        ``(*arrays, **static) -> pytree of floats and small integers``.
    is_small : callable, optional
        Whether a call with these arguments is so small that it should be one kernel of the
        processor: handing it out to threads in pieces would take several times as long.
    """

    def __init__(
        self, function: Callable[..., Any], is_small: Callable[..., bool] | None = None
    ) -> None:
        self.function = function
        self.is_small = is_small
        self.name = function.__name__
        self._loaded: dict[Any, tuple[Any, _Layout]] = {}

    def __call__(self, *args: Any, **static: Any) -> Any:
        """Result as NumPy arrays."""
        return self.bind(*args, **static)(*args)

    def bind(self, *args: Any, **static: Any) -> Callable[..., Any]:
        """The compiled function for arguments of these shapes, without looking at shapes again."""
        key = self._key(args, static)
        with double_precision():
            found = self._loaded.get(key)
            if found is None:
                while len(self._loaded) >= MAX_LOADED:
                    self._loaded.pop(next(iter(self._loaded)))
                found = self._loaded[key] = self._obtain(args, static, str(key))
        executable, layout = found

        def call(*args: Any) -> Any:
            with double_precision():
                packed = np.asarray(executable(*args))
            return layout.unpack(packed)

        return call

    def prefetch(self, *args: Any, **static: Any) -> threading.Thread:
        """Compile in the background for arguments of these shapes.

        Join the thread that is returned before calling.
        """

        def obtain() -> None:
            key = self._key(args, static)
            with double_precision():
                if key not in self._loaded:
                    self._loaded[key] = self._obtain(args, static, str(key))

        thread = threading.Thread(target=obtain)
        thread.start()
        return thread

    @staticmethod
    def _key(args: Any, static: dict[str, Any]) -> Any:
        leaves, treedef = jax.tree.flatten(args)
        return treedef, tuple(static.items()), tuple((x.shape, x.dtype) for x in leaves)

    def _obtain(self, args: Any, static: dict[str, Any], key: str) -> tuple[Any, _Layout]:
        from jax.experimental import serialize_executable

        # The digest below does not see the code of structures that a user writes: keep those in
        # memory only.
        keep = not _jax_keeps_executables() and not _has_foreign_structures(args)
        folder = cache_directory() if keep else None
        digest = hashlib.sha256((_environment() + key).encode()).hexdigest()[:32]
        file = folder / f"{self.name}-{digest}.exe" if folder else None
        if file is not None and file.is_file():
            try:
                payload, layout = pickle.loads(file.read_bytes())
                _ready_to_load()
                os.utime(file)
                return serialize_executable.deserialize_and_load(*payload), layout
            except Exception:
                # Written by another version, cut short, or not loadable here: compile anew.
                file.unlink(missing_ok=True)
        executable = self._compile(args, static)
        layout = _Layout(jax.eval_shape(lambda *a: self.function(*a, **static), *args))
        if file is not None:
            _write(file, pickle.dumps((serialize_executable.serialize(executable), layout)))
        return executable, layout

    def _compile(self, args: Any, static: dict[str, Any]) -> Any:
        bound = jax.jit(lambda *a: _pack(self.function(*a, **static)))
        if KNOWN_VERSION and self.is_small is not None and self.is_small(*args):
            try:
                with written_out(WRITTEN_OUT):
                    return jax.jit(lambda *a: _as_one_kernel(bound, *a)).lower(*args).compile()
            except jax.errors.JaxRuntimeError:
                pass  # Not every operation can be part of such a kernel, in every version.
        return bound.lower(*args).compile()


def _as_one_kernel(function: Callable[..., Any], *args: Any) -> Any:
    # What XLA's own pass marks small loops with; elsewhere than on CPUs it says nothing.
    return set_xla_metadata(function(*args), xla_cpu_small_call="true", inlineable="false")


def _write(file: Path, content: bytes) -> None:
    """Write all or nothing: several processes may share the folder."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as handle:
            handle.write(content)
        os.replace(handle.name, file)
        old = sorted(file.parent.glob("*.exe"), key=lambda f: f.stat().st_mtime)[:-MAX_FILES]
        for each in old:
            each.unlink(missing_ok=True)
    except OSError:
        pass  # A folder that cannot be written costs time, not the fit.
