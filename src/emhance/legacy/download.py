"""Fetch the reference program's published checkpoints and unpack nothing but checkpoints.

The archive's true SHA-256 is not published, so the first download cannot be checked against it: its hash is recorded beside the
checkpoints, together with theirs, and enforced from then on. Whoever knows the hash from elsewhere can give it.
"""

from __future__ import annotations

import re
import stat
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import tomli_w

from emhance.errors import MissingExtraError, OutputError, WeightsError
from emhance.legacy.checkpoint import sha256_of
from emhance.maps.atomic_write import atomic_output

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REFERENCE_URL = "https://zenodo.org/record/7432763/files/deepEMhancerModels_tf2.zip"
"""The archive for TensorFlow 2 of Zenodo record 7432763."""

REFERENCE_FOLDER = "~/.local/share/deepEMhancerModels/production_checkpoints"
"""Where the reference program keeps its checkpoints; an installed one goes on finding them there."""

REFERENCE_SIZE = 721852 * 1024
"""Its size in bytes, as the reference program states it."""

SIZE_TOLERANCE = 0.05
"""Largest relative deviation from that size: the reference program counts disk blocks."""

RECORD = "reference_networks.toml"
"""File beside the checkpoints that holds the hashes of the first download."""

LARGEST_CONTENT = 8 * 2**30
"""Bytes that an archive may unpack to."""

CHUNK = 1 << 20

TIMEOUT = 60
"""Seconds without an answer after which a download stops; it goes on from there the next time."""

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"

Progress = Callable[[int, int], None]
"""Called with the bytes fetched and their total (0 where the server does not say)."""


def download_reference(
    destination: str | Path,
    *,
    url: str = REFERENCE_URL,
    sha256: str | None = None,
    size: int | None = REFERENCE_SIZE,
    progress: Progress | None = None,
) -> list[Path]:
    """Fetch the reference program's checkpoints into a folder, or check those that are there.

    Parameters
    ----------
    destination
        The folder; it is made if missing. The checkpoints come to lie directly in it.
    url
        Where the archive (zip) is.
    sha256
        The archive's SHA-256, if known; by default the one recorded at the first download.
    size
        About how many bytes the archive has, within 5 %; None checks against the server's word alone.
    progress
        Called while fetching.

    Returns
    -------
    list of Path
        The checkpoints, sorted by name.

    Raises
    ------
    WeightsError
        If the server cannot be reached, the archive is truncated, has another size or hash than expected, would write outside
        the folder, or holds no checkpoints; or if checkpoints on disk have changed since the first download.
    OutputError
        If the folder cannot be written.
    """
    folder = Path(destination).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made ({error.strerror}); choose another one.") from error
    record = _read_record(folder)
    recorded = record.get("archive_sha256")
    if sha256 is not None and recorded is not None and sha256.lower() != recorded:
        raise WeightsError(
            f"The hash {sha256} was given, but {folder / RECORD} holds {recorded} from the first download; "
            "remove the folder if the given one is right."
        )
    expected = sha256.lower() if sha256 is not None else recorded
    present = _checked_files(folder, record)
    if present:
        return present
    archive = _fetch(url, folder, expected, size, progress)
    try:
        files = unpack_checkpoints(archive, folder)
        content = {
            "url": url,
            "archive_sha256": sha256_of(archive),
            "archive_bytes": archive.stat().st_size,
            "files": {path.name: sha256_of(path) for path in files},
        }
    finally:
        # Also where it is refused: pooch would take it for the right one the next time.
        archive.unlink(missing_ok=True)
    with atomic_output(folder / RECORD, overwrite=True) as temporary:
        temporary.write_text(tomli_w.dumps(content), encoding="utf-8")
    return files


def unpack_checkpoints(archive: Path, folder: Path) -> list[Path]:
    """Write the checkpoints (.hd5) of a zip archive into a folder, flat; every name is checked before anything is written.

    Raises
    ------
    WeightsError
        If it is not a zip archive, is damaged, holds no checkpoints, two of one name, links, or names that lead outside.
    OutputError
        If the folder cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as source, tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as temporary:
            members = _safe_members(source, archive.name)
            for name, member in members.items():
                _extract(source, member, Path(temporary) / name)
            return sorted((Path(temporary) / name).replace(folder / name) for name in members)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise WeightsError(f"{archive.name} is not a whole zip archive ({error}); fetch it again.") from error
    except OSError as error:
        raise OutputError(f"The checkpoints cannot be written to {folder} ({error.strerror or error}).") from error


def _safe_members(source: zipfile.ZipFile, name: str) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for member in source.infolist():
        path = PurePosixPath(member.filename)
        kind = stat.S_IFMT(member.external_attr >> 16)
        # orig_filename is the name before zipfile cuts it at a null byte.
        inside = not path.is_absolute() and ".." not in path.parts and not re.search(r"[\\:\0]", member.orig_filename)
        if not inside or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise WeightsError(
                f"{name} holds {member.filename!r}, a link or a path that leads out of the folder; nothing was unpacked. "
                "Do not use this archive."
            )
        total += member.file_size
        if total > LARGEST_CONTENT:
            raise WeightsError(f"{name} would unpack to more than {LARGEST_CONTENT / 2**30:g} GiB; nothing was unpacked.")
        if member.is_dir() or path.suffix not in (".hd5", ".h5", ".hdf5"):
            continue
        if path.name.startswith(".") or "__MACOSX" in path.parts:
            continue
        if path.name in members:
            raise WeightsError(f"{name} holds two checkpoints called {path.name}; nothing was unpacked.")
        members[path.name] = member
    if not members:
        raise WeightsError(f"{name} holds no checkpoints (.hd5); it is not the reference program's archive.")
    return members


def _extract(source: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    written = 0
    with source.open(member) as stream, target.open("xb") as out:
        while block := stream.read(CHUNK):
            if not written and not block.startswith(HDF5_SIGNATURE):
                raise WeightsError(f"{member.filename} in the archive is not an HDF5 file; nothing was unpacked.")
            written += len(block)
            if written > member.file_size:
                raise zipfile.BadZipFile(f"{member.filename} is longer than it says")
            out.write(block)
    if not written:
        raise WeightsError(f"{member.filename} in the archive is empty; nothing was unpacked.")


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} cannot be read ({error}); remove it to accept the next download as the first one.") from error


def _checked_files(folder: Path, record: dict[str, Any]) -> list[Path]:
    """The recorded checkpoints if all are there; one that changed is an error."""
    files: dict[str, str] = record.get("files", {})
    paths = sorted(folder / name for name in files)
    for path in paths:
        if path.exists() and sha256_of(path) != files[path.name]:
            raise WeightsError(
                f"{path} has changed since it was fetched (its SHA-256 differs from {RECORD}); remove it and fetch again."
            )
    return paths if paths and all(path.exists() for path in paths) else []


def _fetch(url: str, folder: Path, expected: str | None, size: int | None, progress: Progress | None) -> Path:
    try:
        import pooch
        import requests
    except ImportError as error:
        raise MissingExtraError("Downloads need pooch; install it with: pip install 'emhance[legacy]'") from error
    name = PurePosixPath(url.split("?")[0]).name
    partial = folder / f"{name}.part"

    def download(address: str, output_file: Any, _: Any) -> None:
        _fetch_into(partial, address, size, progress)
        with Path(output_file).open("wb") as out, partial.open("rb") as stream:
            while block := stream.read(CHUNK):
                out.write(block)

    try:
        pooch.get_logger().setLevel("WARNING")
        fetched = pooch.retrieve(url, f"sha256:{expected}" if expected else None, fname=name, path=folder, downloader=download)
    except requests.RequestException as error:
        raise WeightsError(
            f"{url} cannot be fetched ({error}); what has arrived is kept, run the command again to go on."
        ) from error
    except ValueError as error:  # pooch: another hash
        partial.unlink(missing_ok=True)
        raise WeightsError(
            f"{name} is not the archive that is expected here (SHA-256 {expected}); nothing was unpacked."
        ) from error
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror or error}).") from error
    partial.unlink(missing_ok=True)
    return Path(fetched)


def _fetch_into(partial: Path, url: str, size: int | None, progress: Progress | None) -> None:
    """Fetch a file, going on where an earlier attempt stopped; it is whole when this returns."""
    import requests

    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {"Accept-Encoding": "identity"}
    with requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            total = int(answer.headers.get("Content-Range", "*/0").rpartition("/")[2] or 0)
            if have == total:
                return
            partial.unlink()
            raise WeightsError(f"{url} is shorter than what was fetched before; run the command again.")
        answer.raise_for_status()
        if answer.status_code != requests.codes.partial_content:
            have = 0
        length = int(answer.headers.get("Content-Length", 0))
        total = have + length if length else 0
        if size is not None and total and abs(total - size) > SIZE_TOLERANCE * size:
            raise _other_size(url, total, size)
        with partial.open("ab" if have else "wb") as out:
            for block in answer.iter_content(CHUNK):
                out.write(block)
                have += len(block)
                if progress is not None:
                    progress(have, total)
    if total and have != total:
        raise WeightsError(f"{url} broke off after {have} of {total} bytes; run the command again to go on.")
    if size is not None and abs(have - size) > SIZE_TOLERANCE * size:
        partial.unlink()
        raise _other_size(url, have, size)


def _other_size(url: str, found: int, expected: int) -> WeightsError:
    return WeightsError(
        f"{url} has {found} bytes where about {expected} are expected; it is not the reference program's archive."
    )
