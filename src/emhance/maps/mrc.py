"""Reading and writing MRC/CCP4 maps; the only module that thinks x-first.

The header's layout, modes and machine stamps are mrcfile's. The values are streamed here, section by section, straight
into one float32 array in zyx order, because that reads the file once (its SHA-256 included), holds the map once whatever
its mode, byte order and axis order, and lets every header flaw be judged before memory is asked for.

Format: Cheng et al. 2015, J Struct Biol 192:146, doi 10.1016/j.jsb.2015.04.002.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import io
import logging
import math
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

import mrcfile.utils
import numpy as np
from mrcfile.constants import MAP_ID
from mrcfile.dtypes import HEADER_DTYPE
from numpy.typing import NDArray

from emhance.errors import GeometryError, MapContentError, MapFileError
from emhance.maps.atomic_write import atomic_output
from emhance.maps.volume import DensityMap, FloatArray, Geometry

logger = logging.getLogger("emhance")

HEADER_BYTES = 1024
MODE_NAMES = {
    0: "int8",
    1: "int16",
    2: "float32",
    3: "complex int16",
    4: "complex float32",
    6: "uint16",
    12: "float16",
    101: "4-bit integer",
}
READABLE_MODES = (0, 1, 2, 6, 12)
COMPLEX_MODES = (3, 4)

MAX_LABELS = 10
LABEL_LENGTH = 80

_LARGEST_AXIS = 32768  # voxels; far above any map, far below what swapped bytes look like
_SMALLEST_VOXEL = 0.05  # Å; below it the cell is a placeholder, such as 1 Å for a whole box
_ANGLE_TOLERANCE = 0.1  # degrees
_SLAB_BYTES = 16 * 2**20
_GZIP_LEVEL = 4  # noise hardly compresses: higher levels cost time and win nothing

Header = Any  # a numpy record of HEADER_DTYPE, in the file's byte order


@dataclass(frozen=True, kw_only=True)
class FileSummary:
    """What the header of an MRC file says, as it stands; triples are xyz, as in the file's own documentation.

    Parameters
    ----------
    format
        "MRC2014" or "MRC/CCP4 (before 2014)".
    compression
        "gzip", "bzip2" or "none".
    mode, mode_name
        Number and name of the type of the values.
    byte_order
        "little-endian" or "big-endian".
    axis_order_xyz
        Axes of columns, rows and sections, as in "x, y, z".
    box_xyz, sampling_xyz
        Extent in voxels, and voxels along the unit cell.
    cell_xyz, cell_angles
        Unit cell in Å and degrees.
    voxel_size_xyz
        Å per voxel; None where the header does not give it.
    origin_xyz, nstart_xyz
        In Å and in voxels.
    space_group
        Header word 23.
    labels
        Text labels.
    extended_header_bytes, extended_header_type
        Size in bytes, and the four letters of its type.
    minimum, maximum, mean, std
        As the header states them; None where it says they are not known.
    """

    format: str
    compression: str
    mode: int
    mode_name: str
    byte_order: str
    axis_order_xyz: str
    box_xyz: tuple[int, int, int]
    sampling_xyz: tuple[int, int, int]
    cell_xyz: tuple[float, float, float]
    cell_angles: tuple[float, float, float]
    voxel_size_xyz: tuple[float, float, float] | None
    origin_xyz: tuple[float, float, float]
    nstart_xyz: tuple[int, int, int]
    space_group: int
    labels: tuple[str, ...]
    extended_header_bytes: int
    extended_header_type: str
    minimum: float | None
    maximum: float | None
    mean: float | None
    std: float | None


def read_map(
    path: str | Path, *, voxel_size: float | None = None, need_voxel_size: bool = True, allow_constant: bool = False
) -> DensityMap:
    """Read one density map from an MRC/CCP4 file, plain or compressed with gzip or bzip2.

    Modes 0, 1, 2, 6 and 12, both byte orders and all six axis orders are brought to float32 in zyx order. Compression is
    told from the content, not from the name. Harmless flaws of the header are logged, not raised.

    Parameters
    ----------
    path
        The file.
    voxel_size
        Voxel size in Å that replaces the header's; > 0.
    need_voxel_size
        Whether a header without a voxel size is an error; if not, such a map's cell is 0.
    allow_constant
        Whether one value everywhere is allowed, as in a mask that is to be judged as a mask.

    Returns
    -------
    DensityMap
        Shape ``(nz, ny, nx)``, with the header's geometry, its labels and the SHA-256 of the file as it lies on disk.

    Raises
    ------
    MapFileError
        For what is not one density map: missing or damaged file, stack, micrograph, complex values, no voxel size.
    MapContentError
        For NaN or infinite values, and for a constant map.
    GeometryError
        For a cell that is not orthogonal, and voxels that are anisotropic beyond 1 %.
    """
    path = Path(path)
    with _open(path) as stream:
        header = _read_header(path, stream.content)
        _check_is_one_volume(path, header)
        geometry = _geometry(path, header, voxel_size=voxel_size, need_voxel_size=need_voxel_size)
        data = _read_values(path, stream, header, geometry.shape)
        sha256 = stream.finish()
    _check_values(path, data, allow_constant=allow_constant)
    return DensityMap(data=data, geometry=geometry, labels=_labels(header), path=path, sha256=sha256)


def read_summary(path: str | Path) -> FileSummary:
    """Read the header alone, of any kind of MRC file.

    Raises
    ------
    MapFileError
        If the file cannot be read or is no MRC file.
    """
    path = Path(path)
    with _open(path) as stream:
        header = _read_header(path, stream.content)
        compression = stream.compression
    mode = int(header.mode)
    cell, sampling = _xyz(header.cella), (int(header.mx), int(header.my), int(header.mz))
    known_voxel_size = all(m > 0 for m in sampling) and all(0 < edge < math.inf for edge in cell)
    # The format marks statistics that nobody determined by dmax < dmin, dmean < both, rms < 0.
    known_range = float(header.dmax) >= float(header.dmin)
    known_mean = known_range or float(header.dmean) >= min(float(header.dmin), float(header.dmax))
    return FileSummary(
        format="MRC2014" if int(header.nversion) in (20140, 20141) else "MRC/CCP4 (before 2014)",
        compression=compression,
        mode=mode,
        mode_name=MODE_NAMES[mode],
        byte_order="little-endian" if _is_little(header) else "big-endian",
        axis_order_xyz=", ".join({1: "x", 2: "y", 3: "z"}.get(axis, str(axis)) for axis in _axis_order_xyz(header)),
        box_xyz=_in_xyz_order(header, (int(header.nx), int(header.ny), int(header.nz))),
        sampling_xyz=sampling,
        cell_xyz=cell,
        cell_angles=(float(header.cellb.alpha), float(header.cellb.beta), float(header.cellb.gamma)),
        voxel_size_xyz=(cell[0] / sampling[0], cell[1] / sampling[1], cell[2] / sampling[2]) if known_voxel_size else None,
        origin_xyz=_xyz(header.origin),
        nstart_xyz=_in_xyz_order(header, (int(header.nxstart), int(header.nystart), int(header.nzstart))),
        space_group=int(header.ispg),
        labels=_labels(header),
        extended_header_bytes=int(header.nsymbt),
        extended_header_type=bytes(header.exttyp).decode("ascii", "replace").strip(" \0"),
        minimum=float(header.dmin) if known_range else None,
        maximum=float(header.dmax) if known_range else None,
        mean=float(header.dmean) if known_mean else None,
        std=float(header.rms) if float(header.rms) >= 0 else None,
    )


def write_map(
    path: str | Path, density_map: DensityMap, *, overwrite: bool = False, before_move: Callable[[], None] | None = None
) -> None:
    """Write a map as float32 (mode 2), little-endian, axis order x, y, z; compressed if the name ends in .gz or .bz2.

    The geometry goes into the header word for word. Of more than ten labels the first and the last nine are kept.

    Parameters
    ----------
    path
        The file to write; it appears whole or not at all.
    density_map
        The map.
    overwrite
        Whether a file that is already there may be replaced.
    before_move
        Called when the map is whole and has not appeared yet: it writes what must not be missing beside it.

    Raises
    ------
    OutputError
        If the file exists, its folder is missing or unwritable, or the disk is full.
    """
    path = Path(path)
    with atomic_output(path, overwrite=overwrite) as temporary:
        with _open_for_writing(temporary, path.suffix.lower()) as stream:
            stream.write(_new_header(density_map).tobytes())
            for slab in _slabs(density_map.data):
                stream.write(np.ascontiguousarray(slab, dtype="<f4").data)
        if before_move is not None:
            before_move()


# --- the file as a stream -------------------------------------------------------------------------------------------


class _HashingReader(io.RawIOBase):
    """Raw file that takes the SHA-256 of the bytes as they pass."""

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw
        self.hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._raw.readinto(buffer)
        self.hash.update(memoryview(buffer)[:count])
        return count


class _MapStream:
    """A file opened once: `content` is what it holds after decompression, `finish` gives the hash of all its bytes."""

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw
        self._hashing = _HashingReader(raw)
        self._file = io.BufferedReader(self._hashing, buffer_size=2**20)
        self.compression = "none"
        self.content: io.BufferedIOBase = self._file
        # No map has an axis as long as these letters would mean, so the first bytes decide.
        start = self._file.peek(3)[:3]
        if start[:2] == b"\x1f\x8b":
            self.compression, self.content = "gzip", gzip.GzipFile(fileobj=self._file, mode="rb")
        elif start == b"BZh":
            self.compression, self.content = "bzip2", bz2.BZ2File(self._file, mode="rb")

    @property
    def plain_size(self) -> int | None:
        """Bytes of content, where that is known without reading: None for a compressed file."""
        return os.fstat(self._raw.fileno()).st_size if self.compression == "none" else None

    def finish(self) -> str:
        """Read what is left, which lets gzip and bzip2 check their sums, and return the SHA-256 in hexadecimal."""
        for stream in (self.content, self._file):
            while stream.read(2**20):
                pass
        return self._hashing.hash.hexdigest()


@contextlib.contextmanager
def _open(path: Path) -> Iterator[_MapStream]:
    if path.is_dir():
        raise MapFileError(f"{path}: is a directory; give one map file.")
    try:
        with io.FileIO(path) as raw:
            if os.fstat(raw.fileno()).st_size == 0 and path.is_file():
                raise MapFileError(f"{path}: the file is empty (0 bytes); copy or download it again.")
            stream = _MapStream(raw)
            with stream.content:
                yield stream
    except FileNotFoundError:
        raise MapFileError(f"{path}: there is no such file; check its name.") from None
    except PermissionError:
        raise MapFileError(f"{path}: no permission to read the file; ask its owner, or copy it.") from None
    except (EOFError, zlib.error, OSError) as error:
        # The compressed streams say so when they end early or their checksum fails.
        raise MapFileError(f"{path}: the file is damaged or cannot be read ({error}); copy or download it again.") from error


@contextlib.contextmanager
def _open_for_writing(path: Path, suffix: str) -> Iterator[IO[bytes]]:
    with path.open("wb") as file:
        if suffix == ".gz":
            # No name and no time inside, so that the same map gives the same bytes.
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=_GZIP_LEVEL, mtime=0) as packed:
                yield cast("IO[bytes]", packed)
        elif suffix == ".bz2":
            with bz2.BZ2File(file, mode="wb") as packed_bz2:
                yield cast("IO[bytes]", packed_bz2)
        else:
            yield file


def _read_exactly(stream: io.BufferedIOBase, buffer: memoryview) -> int:
    """Fill `buffer` and return the bytes read: fewer only where the stream ends, or ends too early to be unpacked."""
    done = 0
    while done < len(buffer):
        try:
            count = stream.readinto(buffer[done:])
        except EOFError:
            break
        if not count:
            break
        done += count
    return done


# --- header ---------------------------------------------------------------------------------------------------------


def _read_header(path: Path, stream: io.BufferedIOBase) -> Header:
    buffer = bytearray(HEADER_BYTES)
    found = _read_exactly(stream, memoryview(buffer))
    if found < HEADER_BYTES:
        raise MapFileError(
            f"{path}: not an MRC file, or truncated: {found} bytes where the header alone has {HEADER_BYTES}; "
            "copy or download it again."
        )
    raw = np.frombuffer(bytes(buffer), dtype=HEADER_DTYPE).reshape(())
    orders: tuple[Literal["<", ">"], ...] = ("<", ">")
    sane = [order for order in orders if _is_sane(_with_byte_order(raw, order))]
    if not sane:
        raise MapFileError(
            f"{path}: not an MRC file (it begins with {bytes(buffer[:4])!r} and names no box and mode in either byte order); "
            "give a map in MRC or CCP4 format."
        )
    try:
        stamped = mrcfile.utils.byte_order_from_machine_stamp(raw["machst"])
    except ValueError:
        stamped = None
    order = stamped if stamped in sane else sane[0]
    if order != stamped:
        logger.info("%s: the machine stamp does not give the byte order; the box and mode do (%s).", path, order)
    header = _with_byte_order(raw, order)
    if bytes(header.map)[:3] != MAP_ID[:3]:
        logger.info("%s: the word 'MAP ' is missing from the header, as in files from before 2000.", path)
    return header


def _with_byte_order(raw: NDArray[np.void], order: Literal["<", ">"]) -> Header:
    return raw.view(raw.dtype.newbyteorder(order)).view(np.recarray)


def _is_little(header: Header) -> bool:
    return bool(mrcfile.utils.byte_orders_equal(header.mode.dtype.byteorder, "<"))


def _is_sane(header: Header) -> bool:
    """Whether the header read in this byte order can be one: axis lengths, mode, and the words that tell an MRC file."""
    box = (int(header.nx), int(header.ny), int(header.nz))
    if not all(0 < n <= _LARGEST_AXIS for n in box[:2]) or box[2] <= 0 or box[2] > 2**24:
        return False
    if int(header.mode) not in MODE_NAMES or int(header.nsymbt) < 0:
        return False
    axes = sorted((int(header.mapc), int(header.mapr), int(header.maps)))
    if bytes(header.map)[:3] == MAP_ID[:3]:
        return True
    # Without the word "MAP " the axis words must be there: text or another format has no 1, 2, 3 at their place.
    return axes == [1, 2, 3]


def _axis_order_xyz(header: Header) -> tuple[int, int, int]:
    """Axes (1 = x, 2 = y, 3 = z) of columns, rows and sections; zeros, as some programs leave them, mean 1, 2, 3."""
    order = (int(header.mapc), int(header.mapr), int(header.maps))
    return (1, 2, 3) if order == (0, 0, 0) else order


def _in_xyz_order(header: Header, values: tuple[int, int, int]) -> tuple[int, int, int]:
    """Values given for columns, rows and sections, put in the order x, y, z."""
    by_axis = dict(zip(_axis_order_xyz(header), values, strict=True))
    return (by_axis.get(1, values[0]), by_axis.get(2, values[1]), by_axis.get(3, values[2]))


def _xyz(words: Header) -> tuple[float, float, float]:
    return (float(words.x), float(words.y), float(words.z))


def _labels(header: Header) -> tuple[str, ...]:
    count = int(header.nlabl)
    used = header.label[:count] if 0 < count <= MAX_LABELS else header.label
    texts = (mrcfile.utils.printable_string_from_bytes(bytes(label)).rstrip() for label in used)
    return tuple(text for text in texts if text)


def _check_is_one_volume(path: Path, header: Header) -> None:
    mode, group = int(header.mode), int(header.ispg)
    nz, mz = int(header.nz), int(header.mz)
    box_text = f"{int(header.nx)} x {int(header.ny)} x {nz}"
    if mode in COMPLEX_MODES:
        raise MapFileError(f"{path}: holds complex values (mode {mode}), a Fourier transform; give the map in real space.")
    if mode not in READABLE_MODES:
        raise MapFileError(f"{path}: mode {mode} ({MODE_NAMES[mode]}) is not supported; convert the map to float32 (mode 2).")
    order = _axis_order_xyz(header)
    if sorted(order) != [1, 2, 3]:
        raise MapFileError(f"{path}: the axis order {order} in the header is not one of 1, 2, 3; rewrite the map with 1, 2, 3.")
    if min(int(header.nx), int(header.ny), nz) == 1:
        raise MapFileError(f"{path}: holds a single 2-D image ({box_text}), not a map; give a 3-D density map.")
    # A volume of space group 0 is common (older RELION, EMAN, UCSF tools) and has mz = nz; a stack has mz = 1.
    named_stack = any(suffix.lower() == ".mrcs" for suffix in path.suffixes)
    if group == 0 and (mz == 1 or named_stack):
        raise MapFileError(f"{path}: holds a stack of {nz} images ({box_text}), not a map; give a 3-D density map.")
    if mrcfile.utils.spacegroup_is_volume_stack(group):
        raise MapFileError(f"{path}: holds a stack of volumes (space group {group}); give a file with one map.")
    if group not in (0, 1):
        raise MapFileError(
            f"{path}: space group {group} is that of a crystallographic map with symmetry; expand it to P1 (space group 1) first."
        )


def _geometry(path: Path, header: Header, *, voxel_size: float | None, need_voxel_size: bool) -> Geometry:
    """Header words in zyx: the box and nstart follow the axis order, cell, sampling and origin are x, y, z already."""
    angles = (float(header.cellb.alpha), float(header.cellb.beta), float(header.cellb.gamma))
    right = all(abs(angle - 90) <= _ANGLE_TOLERANCE for angle in angles)
    if not right and angles != (0, 0, 0):
        text = ", ".join(f"{angle:g}" for angle in angles)
        raise GeometryError(
            f"{path}: the cell angles are {text} degrees; only orthogonal cells (90, 90, 90) are supported: resample the map."
        )
    nx, ny, nz = _in_xyz_order(header, (int(header.nx), int(header.ny), int(header.nz)))
    x_start, y_start, z_start = _in_xyz_order(header, (int(header.nxstart), int(header.nystart), int(header.nzstart)))
    sampling_x, sampling_y, sampling_z = (
        m if m > 0 else n for m, n in zip((int(header.mx), int(header.my), int(header.mz)), (nx, ny, nz), strict=True)
    )
    cell_x, cell_y, cell_z = _xyz(header.cella)
    origin_x, origin_y, origin_z = _xyz(header.origin)
    if not all(math.isfinite(word) for word in (origin_x, origin_y, origin_z)):
        raise MapFileError(
            f"{path}: the origin in the header is not finite ({origin_x:g}, {origin_y:g}, {origin_z:g}); write the header anew."
        )
    geometry = Geometry(
        shape=(nz, ny, nx),
        cell=(cell_z, cell_y, cell_x),
        sampling=(sampling_z, sampling_y, sampling_x),
        origin=(origin_z, origin_y, origin_x),
        nstart=(z_start, y_start, x_start),
        space_group=int(header.ispg),
    )
    if voxel_size is not None:
        return geometry.with_voxel_size(voxel_size)
    if not all(math.isfinite(size) and size > _SMALLEST_VOXEL for size in geometry.voxel_size_zyx):
        if need_voxel_size:
            raise MapFileError(
                f"{path}: the header gives no usable voxel size (cell {cell_x:g} x {cell_y:g} x {cell_z:g} Å for "
                f"{sampling_x} x {sampling_y} x {sampling_z} voxels); give it with --voxel-size."
            )
        return geometry.with_voxel_size(0.0)
    geometry.require_isotropic(str(path))
    return geometry


# --- values ---------------------------------------------------------------------------------------------------------


def _read_values(path: Path, stream: _MapStream, header: Header, shape: tuple[int, int, int]) -> FloatArray:
    mode_dtype = np.dtype(mrcfile.utils.data_dtype_from_header(header))
    columns, rows, sections = int(header.nx), int(header.ny), int(header.nz)
    extended = int(header.nsymbt)
    section_bytes = columns * rows * mode_dtype.itemsize
    before = HEADER_BYTES + extended
    expected = before + section_bytes * sections

    def truncated(found: int) -> MapFileError:
        return MapFileError(f"{path}: truncated: {expected} bytes expected, {found} found; copy or download it again.")

    if stream.plain_size is not None and stream.plain_size < expected:
        raise truncated(stream.plain_size)
    skipped = _read_exactly(stream.content, memoryview(bytearray(extended)))
    if skipped < extended:
        raise truncated(HEADER_BYTES + skipped)
    try:
        data = np.empty(shape, dtype=np.float32)
    except MemoryError:
        raise MapFileError(
            f"{path}: a box of {shape[2]} x {shape[1]} x {shape[0]} voxels does not fit into memory; bin or crop the map."
        ) from None
    # The array seen in the file's own order, so that sections go to their place without a second copy of the map.
    by_axis = {1: 2, 2: 1, 3: 0}
    c, r, s = (by_axis[axis] for axis in _axis_order_xyz(header))
    in_file_order = data.transpose(s, r, c)
    step = max(1, _SLAB_BYTES // section_bytes)
    for first in range(0, sections, step):
        count = min(step, sections - first)
        slab = np.empty((count, rows, columns), dtype=mode_dtype)
        done = _read_exactly(stream.content, slab.data.cast("B"))
        if done < slab.nbytes:
            raise truncated(before + section_bytes * first + done)
        with np.errstate(invalid="ignore"):  # NaN is reported with its place, once the map is read
            in_file_order[first : first + count] = slab
    return data


def _check_values(path: Path, data: FloatArray, *, allow_constant: bool) -> None:
    bad, first = 0, ""
    low, high = math.inf, -math.inf
    for z, plane in enumerate(data):
        # The extremes are finite only if every value is: NaN and infinities propagate into them.
        plane_low, plane_high = float(plane.min()), float(plane.max())
        if math.isfinite(plane_low) and math.isfinite(plane_high):
            low, high = min(low, plane_low), max(high, plane_high)
            continue
        wrong = ~np.isfinite(plane)
        if not bad:
            y, x = np.unravel_index(int(wrong.argmax()), plane.shape)
            first = f"x, y, z = {x}, {y}, {z}"
        bad += int(wrong.sum())
    if bad:
        values = "1 value that is" if bad == 1 else f"{bad} values that are"
        raise MapContentError(
            f"{path}: holds {values} NaN or infinite, the first at voxel {first} (counted from 0); "
            "find out what went wrong in the reconstruction."
        )
    if low == high and not allow_constant:
        raise MapContentError(f"{path}: every voxel is {low:g}; a constant map holds nothing to enhance, give another.")


def _slabs(data: FloatArray) -> Iterator[FloatArray]:
    step = max(1, _SLAB_BYTES // max(1, data[0].nbytes))
    for first in range(0, data.shape[0], step):
        yield data[first : first + step]


def _new_header(density_map: DensityMap) -> NDArray[np.void]:
    geometry = density_map.geometry
    header: Any = np.zeros((), dtype=HEADER_DTYPE.newbyteorder("<")).view(np.recarray)
    header.map = MAP_ID
    header.nversion = 20141
    header.machst = mrcfile.utils.machine_stamp_from_byte_order("<")
    header.mode = 2
    header.nz, header.ny, header.nx = geometry.shape
    header.nzstart, header.nystart, header.nxstart = geometry.nstart
    header.mz, header.my, header.mx = geometry.sampling
    header.cella.z, header.cella.y, header.cella.x = geometry.cell
    header.origin.z, header.origin.y, header.origin.x = geometry.origin
    header.cellb.alpha = header.cellb.beta = header.cellb.gamma = 90.0
    header.mapc, header.mapr, header.maps = 1, 2, 3
    header.ispg = geometry.space_group
    labels = _fitting_labels(density_map.labels)
    header.nlabl = len(labels)
    for index, label in enumerate(labels):
        header.label[index] = label
    header.dmin, header.dmax, header.dmean, header.rms = _statistics(density_map.data)
    return cast("NDArray[np.void]", header)


def _fitting_labels(labels: tuple[str, ...]) -> list[bytes]:
    """Keep ten labels: the first tells where the map comes from, the last ones what was done to it."""
    kept = labels if len(labels) <= MAX_LABELS else (labels[0], *labels[1 - MAX_LABELS :])
    texts = ("".join(c if " " <= c <= "~" else "?" for c in label.replace("Å", "A")) for label in kept)
    return [text[:LABEL_LENGTH].ljust(LABEL_LENGTH).encode("ascii") for text in texts]


def _statistics(data: FloatArray) -> tuple[float, float, float, float]:
    """Minimum, maximum, mean and standard deviation, summed in float64 slab by slab."""
    mean = sum(float(slab.sum(dtype=np.float64)) for slab in _slabs(data)) / data.size
    squares = 0.0
    for slab in _slabs(data):
        deviation = slab.astype(np.float64)
        deviation -= mean
        squares += float(np.vdot(deviation, deviation))
    return float(data.min()), float(data.max()), mean, math.sqrt(squares / data.size)
