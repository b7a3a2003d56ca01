"""Compiled functions of the front end, kept in memory and on disk.

Compile time is part of the user's wait: a first fit would spend seconds in XLA. A :class:`Kernel`
stores the finished executable, so a later process skips tracing, lowering and compiling. Pure
functions that users call under their own ``jit`` do not pass through here.

Turn the cache on disk off with the environment variable ``LMMJAX_CACHE=0``; move it with
``LMMJAX_CACHE_DIR``.
"""

from __future__ import annotations

import gc
import hashlib
import os
import pickle
import platform
import sys
import threading
import weakref
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np
from jax.experimental.xla_metadata import set_xla_metadata

from lmmjax.covariance import Covariance
from lmmjax.errors import LmmError, LmmWarning, warn
from lmmjax.likelihood.products import written_out
from lmmjax.precision import double_precision
from lmmjax.private_folder import NotPrivateError, private_folder

#: Multiplications up to which a product is written out in a program that is one kernel.
WRITTEN_OUT = 100_000
#: The mark for such a program is XLA's own and not documented: a version that has not been tried
#: is not given it.
KNOWN_VERSION = jaxlib.version.__version__.startswith("0.10.")
#: Executables that a function keeps in memory: each takes some of the memory maps that a process
#: may have, and XLA aborts where there are none left.
MAX_LOADED = 128
#: Memory maps of this process (Linux lends it 65,530) from which on all functions let go of theirs.
MAX_MAPS = 40_000
#: Executables kept on disk; the ones longest unused go first.
MAX_FILES = 300
#: What their names end in.
SUFFIX = ".exe"


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
    path = cache_directory()
    if path is None or not path.is_dir():
        return 0
    try:
        with private_folder(path, SUFFIX, create=False) as folder:
            names = folder.names(SUFFIX)
            for name in names:
                folder.delete(name)
    except NotPrivateError as reason:
        raise LmmError(f"the folder {path} is not yours alone to clear: {reason}") from None
    return len(names)


@cache
def source_digest(package: Path) -> str | None:
    """Digest every Python file of a package; None if there are none to read.

    All of them, because what a kernel is traced from may be moved, or import what is new: a list
    of some would one day lack one, and old programs would give old numbers.
    """
    digest = hashlib.sha256()
    files = sorted(package.rglob("*.py"))
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.relative_to(package).as_posix()}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest() if files else None


@cache
def _environment() -> str:
    """Everything but the shapes that an executable depends on."""
    device = jax.devices()[0]
    processor = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor += next((x for x in lines if x.startswith("flags")), "")
    except OSError:
        pass
    parts = (
        sys.version,
        np.__version__,
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
    found = jax.tree.leaves(args, is_leaf=lambda x: isinstance(x, Covariance))
    structures = (x for x in found if isinstance(x, Covariance))
    return any(not type(s).__module__.startswith("lmmjax.") for s in structures)


#: All kernels, which share the memory maps of the process.
_kernels: weakref.WeakSet[Kernel] = weakref.WeakSet()


def _make_room() -> None:
    """Let go of loaded programs where the process is about to run out of memory maps."""
    try:
        with open("/proc/self/maps", "rb") as maps:
            count = sum(1 for _ in maps)
    except OSError:
        return  # Not Linux: no such limit is known.
    if count > MAX_MAPS:
        for kernel in list(_kernels):
            kernel._loaded.clear()
        gc.collect()


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
        _kernels.add(self)

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

        _make_room()
        name = None if _jax_keeps_executables() else self._file_name(args, key)
        if name is not None and (found := _load(name)) is not None:
            return found
        executable = self._compile(args, static)
        layout = _Layout(jax.eval_shape(lambda *a: self.function(*a, **static), *args))
        if name is not None:
            _store(name, pickle.dumps((serialize_executable.serialize(executable), layout)))
        return executable, layout

    def _file_name(self, args: Any, key: str) -> str | None:
        """Name that no other program has; None for a program that has no such name."""
        # A file's name cannot know the code of structures and functions that a user writes: it
        # would be their class, or their address in memory, which the next process may give away.
        nameless = _has_foreign_structures(args) or " at 0x" in key or "..." in key
        source = None if nameless else source_digest(Path(__file__).parent)
        if source is None:
            return None
        digest = hashlib.sha256("|".join((source, _environment(), key)).encode()).hexdigest()
        return f"{self.name}-{digest[:32]}{SUFFIX}"

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


def _load(name: str) -> tuple[Any, _Layout] | None:
    """Load a program from the folder on disk, if it is there and can be trusted."""
    from jax.experimental import serialize_executable

    path = cache_directory()
    if path is None or not path.is_dir():
        return None
    try:
        with private_folder(path, SUFFIX) as folder:
            content = folder.read(name)
            if content is None:
                return None
            try:
                payload, layout = pickle.loads(content)
                _ready_to_load()
                folder.touch(name)
                return serialize_executable.deserialize_and_load(*payload), layout
            except Exception:
                # Written by another version, cut short, or not loadable here: compile anew.
                folder.delete(name)
    except NotPrivateError as reason:
        _warn_not_private(path, str(reason))
    except OSError:
        pass
    return None


def _store(name: str, content: bytes) -> None:
    """Keep a program on disk; the ones longest unused make room."""
    path = cache_directory()
    if path is None:
        return
    try:
        with private_folder(path, SUFFIX) as folder:
            folder.write(name, content)
            for old in sorted(folder.names(SUFFIX), key=folder.age)[:-MAX_FILES]:
                folder.delete(old)
    except NotPrivateError as reason:
        _warn_not_private(path, str(reason))
    except OSError:
        pass  # A folder that cannot be written costs time, not the fit.


@cache
def _warn_not_private(path: Path, reason: str) -> None:
    warn(
        f"compiled programs are not kept in {path}: {reason}. LMMJAX_CACHE_DIR names another "
        "folder, LMMJAX_CACHE=0 keeps none",
        LmmWarning,
    )
