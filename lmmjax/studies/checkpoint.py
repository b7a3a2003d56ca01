"""A study on disk: written whole after every batch, so that a killed one goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lmmjax.errors import LmmError
from lmmjax.studies.tally import Tally


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
        It is a folder, or a file that holds something else.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.cells: dict[str, Any] = {}
        if self.path.is_dir():
            raise LmmError(f"{self.path} is a folder: a checkpoint is a file")
        if self.path.is_file():
            try:
                self.cells = json.loads(self.path.read_text())["cells"]
            except (ValueError, KeyError, TypeError) as error:
                raise LmmError(
                    f"{self.path} is no checkpoint of a power study: delete it or name another file"
                ) from error

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
        """Keep a cell's tally; all or nothing."""
        self.cells[cell] = {"study": study, "tally": tally.as_dict()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            beside.write_text(json.dumps({"cells": self.cells}))
            os.replace(beside, self.path)
        finally:
            beside.unlink(missing_ok=True)
