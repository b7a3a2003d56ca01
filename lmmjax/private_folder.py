"""A folder that only its owner can write to, for files that are trusted when they are read back.

Unpickling runs code, so a folder that somebody else can put files into must not be loaded from.
The folder is opened once, looked at through its descriptor, and files are then reached through that
descriptor: nobody can put another folder in its place between the look and the use. Where the
system has no owners and modes of files (Windows), a user's own folders are private as they are.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Whether files have owners and modes here, and can be opened relative to a folder.
POSIX = hasattr(os, "geteuid") and os.open in os.supports_dir_fd
#: What a group or others may not do to a folder: anything.
OTHERS = stat.S_IRWXG | stat.S_IRWXO
#: What they may not do to a file that is loaded: write it.
WRITERS = stat.S_IWGRP | stat.S_IWOTH


class NotPrivateError(Exception):
    """A folder that somebody else than its user may have put files into."""


@dataclass(frozen=True)
class PrivateFolder:
    """Files of an open folder; made by :func:`private_folder`.

    Attributes
    ----------
    path : Path
    descriptor : int or None
        The open folder; None where the system has no such thing.
    """

    path: Path
    descriptor: int | None

    def _at(self, name: str) -> str:
        return name if self.descriptor is not None else str(self.path / name)

    def names(self, suffix: str) -> list[str]:
        """Return the names of the files that end in `suffix`."""
        place = self.path if self.descriptor is None else self.descriptor
        return [name for name in os.listdir(place) if name.endswith(suffix)]

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or None if there is no such file that is the user's own.

        Links of either kind are not followed: they would let another file stand for this one.
        """
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        flags |= getattr(os, "O_NONBLOCK", 0)  # A pipe must not keep the reader waiting.
        try:
            handle = os.open(self._at(name), flags, dir_fd=self.descriptor)
        except OSError:
            return None
        with open(handle, "rb") as file:
            found = os.fstat(handle)
            own = not POSIX or (
                found.st_uid == os.geteuid() and found.st_nlink == 1 and not found.st_mode & WRITERS
            )
            return file.read() if stat.S_ISREG(found.st_mode) and own else None

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all, as other processes may share the folder."""
        part = f".{os.getpid()}.{os.urandom(6).hex()}.{name}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        handle = os.open(self._at(part), flags, 0o600, dir_fd=self.descriptor)
        try:
            with open(handle, "wb") as file:
                file.write(content)
            inside: Any = {"src_dir_fd": self.descriptor, "dst_dir_fd": self.descriptor}
            os.replace(self._at(part), self._at(name), **(inside if self.descriptor else {}))
        except BaseException:
            self.delete(part)
            raise

    def touch(self, name: str) -> None:
        """Mark a file as used now."""
        os.utime(self._at(name), dir_fd=self.descriptor)

    def age(self, name: str) -> float:
        """Return when a file was last used; zero if it is gone."""
        try:
            return os.stat(self._at(name), dir_fd=self.descriptor, follow_symlinks=False).st_mtime
        except OSError:
            return 0.0

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(self._at(name), dir_fd=self.descriptor)


@contextmanager
def private_folder(path: Path, suffix: str, create: bool = True) -> Iterator[PrivateFolder]:
    """Open a folder that is the user's alone.

    Parameters
    ----------
    path : Path
    suffix : str
        Of the files that are kept in it. A folder of the user's that others can look into, but not
        write to, is closed to them, if it holds no other files: those may be meant for others.
    create : bool, default True
        Whether to make it, for nobody else, if it is not there.

    Raises
    ------
    NotPrivateError
        It is somebody else's, is open to others, or is a symbolic link.
    OSError
        It cannot be opened or made.
    """
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made private at once, not made and then closed.
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
    if not POSIX:
        if not path.is_dir():
            raise NotADirectoryError(str(path))
        yield PrivateFolder(path, None)
        return
    if path.is_symlink():
        raise NotPrivateError("it is a symbolic link: name the folder that it points to")
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        folder = PrivateFolder(path, descriptor)
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            raise NotPrivateError(f"it belongs to user {found.st_uid}, not to you")
        if found.st_mode & OTHERS:
            others = [name for name in os.listdir(descriptor) if not name.endswith(suffix)]
            if found.st_mode & WRITERS or others:
                raise NotPrivateError(
                    f"others can {'write to' if found.st_mode & WRITERS else 'look into'} it: "
                    f"run `chmod 700 '{path}'`, or name a folder of your own"
                )
            os.fchmod(descriptor, 0o700)
        yield folder
    finally:
        os.close(descriptor)
