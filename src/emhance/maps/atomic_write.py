"""Outputs appear whole or not at all: written under a temporary name beside the target, then moved."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from emhance.errors import OutputError

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)

_in_progress: set[Path] = set()  # temporaries this process is writing now


def check_output(path: str | Path, *, overwrite: bool = False) -> None:
    """Say before the work starts whether `path` can be written.

    Parameters
    ----------
    path
        The file to be written.
    overwrite
        Whether a file that is already there may be replaced.

    Raises
    ------
    OutputError
        If the folder is missing or cannot be written to, if `path` is a directory or a device, or if it exists and
        `overwrite` is false.
    """
    path = Path(path)
    folder = path.parent
    if not folder.exists():
        raise OutputError(f"{path}: the folder {folder} does not exist; create it first, or choose another output.")
    if not folder.is_dir():
        raise OutputError(f"{path}: {folder} is not a folder; choose another output.")
    if path.is_dir():
        raise OutputError(f"{path}: is a directory; give the name of a file inside it.")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path}: is a device or a pipe, not a file; choose another output.")
    if os.path.lexists(path) and not overwrite:
        raise _exists(path)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: no permission to write to the folder {folder.absolute()}; choose another output.")


@contextlib.contextmanager
def atomic_output(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, move it there, else remove it.

    The block writes the temporary and does nothing else: every `OSError` in it is taken for a failure to write. Whoever
    looks sees either no file, the old file or the whole new file. Temporaries that a killed run left for the same
    target are removed first.

    Parameters
    ----------
    path
        The file to be written.
    overwrite
        Whether a file that is already there may be replaced; if false, one that appears meanwhile is kept as well.

    Raises
    ------
    OutputError
        As `check_output`, and when the disk is full or the system refuses to write.
    """
    path = Path(path)
    remove_leftovers(path)
    check_output(path, overwrite=overwrite)
    temporary = path.with_name(f".{path.name}.emhance-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    _in_progress.add(temporary)
    try:
        yield temporary
        _flush_to_disk(temporary)
        _move(temporary, path, overwrite=overwrite)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        # Reached on KeyboardInterrupt too; after a successful move there is nothing left to remove.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        _in_progress.discard(temporary)


def remove_leftovers(path: str | Path) -> None:
    """Remove the temporaries that runs which are no longer alive left for the target `path`."""
    path = Path(path)
    pattern = re.compile(re.escape(f".{path.name}.emhance-") + r"(\d+)-[0-9a-f]{8}\.tmp")
    with contextlib.suppress(OSError):  # a folder that cannot be listed is reported by `check_output`
        for candidate in path.parent.iterdir():
            match = pattern.fullmatch(candidate.name)
            if match and not _is_being_written(candidate, int(match[1])):
                candidate.unlink(missing_ok=True)


def _is_being_written(temporary: Path, pid: int) -> bool:
    # In a container a run often gets the number of the run before it, so our own number is no proof of life.
    if pid == os.getpid():
        return temporary in _in_progress
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move(temporary: Path, path: Path, *, overwrite: bool) -> None:
    if overwrite:
        temporary.replace(path)
        return
    try:
        # Unlike a rename, a link never replaces a file that appeared since the check.
        path.hardlink_to(temporary)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if os.path.lexists(path):
            raise _exists(path) from None
        temporary.replace(path)


def _exists(path: Path) -> OutputError:
    return OutputError(f"{path}: exists already; give another name, or --overwrite to replace it.")


def _cannot_write(path: Path, error: OSError) -> OutputError:
    if error.errno in _DISK_FULL:
        return OutputError(f"{path}: the disk is full ({error.strerror}); make room, or write to another disk.")
    return OutputError(f"{path}: cannot be written ({error.strerror or error}); choose another output.")
