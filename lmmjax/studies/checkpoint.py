"""A study on disk: written whole after every batch, so that a killed one goes on where it was.

A file holds the tally of each cell and a digest of them all, so that a damaged file is told from a
whole one. Each time it is written, what other processes have added to it since is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lmmjax.errors import LmmError
from lmmjax.studies.tally import Tally

try:
    import fcntl
except ImportError:  # Windows has no such locks.
    fcntl = None


def fingerprint(*parts: Any) -> str:
    """Of everything that the numbers of a study depend on."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(parts):
        array = np.asarray(leaf)
        digest.update(str((array.shape, array.dtype.str)).encode())
        digest.update(array.tobytes() if array.dtype != object else repr(leaf).encode())
    return digest.hexdigest()[:32]


class Checkpoint:
    """Tallies by the name of their cell, in a JSON file.

    Parameters
    ----------
    path : path

    Raises
    ------
    LmmError
        It is a folder, cannot be read, is damaged, or holds something else.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # A link stays a link: what it points to is written.
        try:
            self.path = Path(os.path.realpath(path))
        except (OSError, ValueError) as error:
            raise LmmError(f"{path!r} cannot be a checkpoint: {error}") from error
        self.cells = self._cells_on_disk()

    def read(self, cell: str, study: str) -> Tally:
        """What a cell has done so far.

        Raises
        ------
        LmmError
            The file holds another study under this name.
        """
        if cell not in self.cells:
            return Tally()
        kept = self.cells[cell]
        if kept["study"] != study:
            raise LmmError(
                f"{self.path} belongs to another study (another design, truth, test or key): "
                "delete it or name another file"
            )
        return Tally(**kept["tally"])

    def write(self, cell: str, study: str, tally: Tally) -> None:
        """Keep a cell's tally; all or nothing.

        Raises
        ------
        LmmError
            The file cannot be written, or another study has been written to it meanwhile. What it
            held before is still there.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self.path.parent):
                self.cells = self._cells_on_disk()
                # The same study may run twice: the one that is further on knows all of the other.
                if self.read(cell, study).done < tally.done:
                    self.cells[cell] = {"study": study, "tally": tally.as_dict()}
                    self._replace(_text_of(self.cells))
        except OSError as error:
            raise LmmError(
                f"cannot keep the study in {self.path}: {error.strerror or error}. What was kept "
                "before is still there, and the same call goes on from it"
            ) from error

    def _replace(self, text: str) -> None:
        # Processes that were killed while they wrote have left these; nobody else writes now.
        for left in self.path.parent.glob(f".{_escaped(self.path.name)}.*.part"):
            left.unlink(missing_ok=True)
        beside = self.path.with_name(f".{self.path.name}.{os.urandom(6).hex()}.part")
        try:
            with beside.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                # On the disk before it takes the place of what is there.
                os.fsync(file.fileno())
            os.replace(beside, self.path)
        finally:
            beside.unlink(missing_ok=True)

    def _cells_on_disk(self) -> dict[str, Any]:
        if self.path.is_dir():
            raise LmmError(f"{self.path} is a folder: a checkpoint is a file")
        try:
            text = self.path.read_bytes().decode()
            content = json.loads(text)
            cells = content["cells"]
            whole = text == _text_of(cells)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise LmmError(f"cannot read {self.path}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise LmmError(
                f"{self.path} is no checkpoint of a power study, or was cut short: delete it or "
                "name another file"
            ) from error
        if not whole or not _are_tallies(cells):
            raise LmmError(
                f"{self.path} is damaged: it is not as it was written. Delete it or name another "
                "file"
            )
        return cells


def _text_of(cells: Any) -> str:
    """The file's text: the same for the same tallies, and not to be had by changing a byte."""
    digest = hashlib.sha256(json.dumps(cells, sort_keys=True).encode()).hexdigest()
    return json.dumps({"cells": cells, "sha256": digest}, sort_keys=True)


def _are_tallies(cells: Any) -> bool:
    names = {field.name for field in fields(Tally)}
    return isinstance(cells, dict) and all(
        isinstance(kept, dict)
        and kept.keys() == {"study", "tally"}
        and isinstance(kept["tally"], dict)
        and kept["tally"].keys() == names
        for kept in cells.values()
    )


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing checkpoints to a folder, where the system has locks."""
    handle = None
    if fcntl is not None:
        with suppress(OSError):  # Some network drives have none: then the last one wins.
            handle = os.open(folder, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)
