"""Tables from files, for the command line: CSV in its many dialects, Parquet, Excel and others."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmmjax.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

#: Files that are no text, by their endings: what they are, and pandas' function for them.
BINARY = {
    **dict.fromkeys((".parquet", ".pq"), ("Parquet", "read_parquet")),
    **dict.fromkeys((".feather", ".arrow"), ("Feather", "read_feather")),
    **dict.fromkeys((".xlsx", ".xlsm", ".xls", ".xlsb"), ("Excel", "read_excel")),
    ".ods": ("OpenDocument", "read_excel"),
    ".dta": ("Stata", "read_stata"),
    ".sav": ("SPSS", ""),
    ".sas7bdat": ("SAS", ""),
    **dict.fromkeys((".rds", ".rda", ".rdata"), ("R", "")),
    **dict.fromkeys((".pkl", ".pickle"), ("pickle", "")),
    **dict.fromkeys((".npy", ".npz"), ("NumPy", "")),
    **dict.fromkeys((".json", ".jsonl"), ("JSON", "")),
    **dict.fromkeys((".h5", ".hdf5"), ("HDF5", "")),
}
#: How files begin that are no text, whatever they are called.
BEGINNINGS = {b"PAR1": ".parquet", b"ARROW1": ".feather", b"\xd0\xcf\x11\xe0": ".xls"}
#: Marks of an encoding at the beginning of a text; the longer one first.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
PACKED = {".gz", ".bz2", ".xz", ".zip", ".zst"}


def read_table(
    path: str,
    sep: str | None = None,
    *,
    decimal: str = ".",
    thousands: str | None = None,
    encoding: str | None = None,
    na_values: Sequence[str] = (),
) -> pd.DataFrame:
    """Read a table from a file.

    Parameters
    ----------
    path : str
        A CSV file, ``"-"`` for standard input. A name in ``.gz``, ``.bz2``, ``.xz`` or ``.zip`` is
        unpacked. Parquet, Feather, Excel and Stata files are read where what pandas needs for them
        is installed.
    sep : str, optional
        Separator; by default a comma (a semicolon with decimal commas), or a tab for ``.tsv`` and
        ``.tab``.
    decimal, thousands : str
        Mark of decimals, and of groups of three digits.
    encoding : str, optional
        By default UTF-8, or what a byte order mark says.
    na_values : sequence of str
        What stands for a missing value, besides what pandas takes for one.

    Raises
    ------
    DataError
        There is no such file, or it is no table.
    """
    shown = "standard input" if path == "-" else repr(path)
    sep = _separator(path, sep, decimal)
    for option, value in (("--decimal", decimal), ("--thousands", thousands)):
        if value is not None and len(value) != 1:
            raise DataError(f"{option} must be one character, not {value!r}")
    if len({sep, decimal, thousands}) < 3:
        raise DataError("--sep, --decimal and --thousands must be different characters")
    if encoding is not None:
        try:
            codecs.lookup(encoding)
        except (LookupError, ValueError) as error:
            raise DataError(
                f"--encoding {encoding!r} is not known: latin-1, cp1252 and utf-16 are"
            ) from error
    suffix = Path(path).suffix.lower()
    start = b"" if path == "-" or suffix in PACKED else _beginning(path, shown)
    ending = next((e for begin, e in BEGINNINGS.items() if start.startswith(begin)), suffix)
    if start.startswith(b"PK\x03\x04"):
        ending = suffix if suffix in BINARY else ".xlsx"
    if ending in BINARY:
        return _read_binary(path, shown, *BINARY[ending])
    return _read_csv(
        path,
        shown,
        encoding or next((name for mark, name in MARKS.items() if start.startswith(mark)), None),
        sep,
        decimal=decimal,
        thousands=thousands,
        na_values=list(na_values),
    )


def reason_of(error: Exception) -> str:
    """Return what the system or pandas says is wrong, in a line."""
    said = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return said.splitlines()[0]


def _separator(path: str, sep: str | None, decimal: str) -> str:
    if sep is None:
        if {".tsv", ".tab"} & set(Path(path).suffixes):
            return "\t"
        return ";" if decimal == "," else ","
    sep = "\t" if sep == "\\t" else sep
    if len(sep) != 1:
        raise DataError(f"--sep must be one character, not {sep!r}")
    return sep


def _beginning(path: str, shown: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(8)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {shown}: {reason_of(error)}") from error


def _read_binary(path: str, shown: str, kind: str, reader: str) -> pd.DataFrame:
    import pandas as pd

    if not reader:
        raise DataError(f"{shown} is a file of {kind}, which is not read: save it as CSV")
    try:
        return getattr(pd, reader)(path)
    except ImportError as error:
        raise DataError(
            f"{shown} is a file of {kind}, and what pandas needs for it is not installed: install "
            "it, or save the table as CSV"
        ) from error
    except Exception as error:  # Each library has errors of its own.
        raise DataError(f"cannot read {shown} as {kind}: {reason_of(error)}") from error


def _read_csv(
    path: str, shown: str, encoding: str | None, sep: str, **options: Any
) -> pd.DataFrame:
    import pandas as pd

    source: Any = path
    if path == "-":
        source = sys.stdin
        if hasattr(sys.stdin, "buffer"):
            source = io.BytesIO(sys.stdin.buffer.read())
    try:
        frame = pd.read_csv(
            source, sep=sep, encoding=encoding or "utf-8-sig", skipinitialspace=True, **options
        )
    except UnicodeError as error:
        hint = "" if encoding else ": if it was made by an older program, add --encoding latin-1"
        raise DataError(
            f"{shown} is no CSV file that can be read as {encoding or 'UTF-8'} "
            f"({reason_of(error)}){hint}"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {shown}: {reason_of(error)}") from error
    except Exception as error:
        # pandas says what is wrong in its first line; the packers have errors of their own.
        raise DataError(f"{shown} is no CSV file that can be read: {reason_of(error)}") from error
    if len(frame.columns) == 1:
        header = str(frame.columns[0])
        for other, name in ((";", "';'"), ("\t", "'\\t'"), (",", "','")):
            if other != sep and other in header:
                raise DataError(
                    f"{shown} has one column, {header!r}: if its separator is {name}, "
                    f"add --sep {name}"
                )
    return frame


def check_writable(path: str, what: str) -> None:
    """Raise before any work unless a file can be written at `path`.

    Parameters
    ----------
    path : str
    what : str
        The option that names it, for the message.

    Raises
    ------
    DataError
        It is a folder, its folder is not there, or may not be written to.
    """
    target = Path(path)
    try:
        parent, is_folder = target.parent, target.is_dir()
        there, exists = parent.is_dir(), target.exists()
    except (OSError, ValueError) as error:
        raise DataError(f"{what}: cannot write {path!r}: {reason_of(error)}") from error
    if is_folder:
        reason = "it is a folder"
    elif not there:
        reason = f"there is no folder {str(parent)!r}"
    elif not os.access(target if exists else parent, os.W_OK):
        reason = "it may not be written"
    else:
        return
    raise DataError(f"{what}: cannot write {path!r}: {reason}")


def writing(write: Callable[[], Any], path: str) -> None:
    """Call what writes a file, and raise a DataError that says why it could not."""
    try:
        write()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot write {path!r}: {reason_of(error)}") from error
