"""Reading and writing maps: every header word comes out as it went in, and bad files are named."""

import bz2
import contextlib
import errno
import gzip
import hashlib
import itertools
import logging
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emhance.errors import GeometryError, MapContentError, MapFileError, OutputError
from emhance.maps import mrc
from emhance.maps.mrc import read_map, read_summary, write_map
from emhance.maps.volume import DensityMap, Geometry

SHAPE = (4, 5, 6)
AXIS_ORDERS = list(itertools.permutations((1, 2, 3)))


def values(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 20, shape).astype(np.float32)


def make_file(path: Path, data: np.ndarray | None = None, **words: Any) -> Path:
    """Write a file through mrcfile, then set header words as they are given."""
    with mrcfile.new(path, data=values() if data is None else data, overwrite=True) as file:
        file.set_volume() if file.data.ndim == 3 else None
        file.voxel_size = 1.5
        for name, value in words.items():
            target, _, field = name.partition("__")
            if field:
                file.header[target][field] = value
            else:
                file.header[target] = value
    return path


def patch(path: Path, offset: int, content: bytes) -> Path:
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(content)] = content
    path.write_bytes(bytes(raw))
    return path


def swapped(path: Path) -> Path:
    """The same file in the other byte order, its machine stamp included."""
    with mrcfile.open(path) as file:
        header, data = file.header.copy(), file.data.copy()
    big = header.astype(header.dtype.newbyteorder(">"))
    big["machst"] = (0x11, 0x11, 0, 0)
    path.write_bytes(big.tobytes() + data.astype(data.dtype.newbyteorder(">")).tobytes())
    return path


class TestReading:
    @pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float32, np.uint16, np.float16])
    @pytest.mark.parametrize("big_endian", [False, True])
    def test_every_mode_and_byte_order_becomes_float32(self, tmp_path: Path, dtype: type, big_endian: bool) -> None:
        data = np.abs(values()).astype(dtype)
        path = make_file(tmp_path / "a.mrc", data)
        if big_endian:
            swapped(path)
        read = read_map(path)
        assert read.data.dtype == np.float32
        assert read.data.dtype.isnative
        assert read.data.flags.c_contiguous
        np.testing.assert_array_equal(read.data, data.astype(np.float32))
        assert read.geometry == Geometry(shape=SHAPE, cell=(6.0, 7.5, 9.0), sampling=SHAPE)

    @pytest.mark.parametrize("order", AXIS_ORDERS)
    def test_six_axis_orders_become_zyx(self, tmp_path: Path, order: tuple[int, int, int]) -> None:
        expected = values()
        geometry = Geometry(
            shape=SHAPE, cell=(40.0, 50.0, 60.0), sampling=(40, 50, 60), origin=(1.25, -2.5, 3.75), nstart=(7, -8, 9)
        )
        # sections, rows, columns of the file are these axes of the zyx array
        axes = [3 - axis for axis in reversed(order)]
        start_xyz = geometry.nstart[::-1]
        path = make_file(
            tmp_path / "a.map",
            np.ascontiguousarray(expected.transpose(axes)),
            mapc=order[0],
            mapr=order[1],
            maps=order[2],
            nxstart=start_xyz[order[0] - 1],
            nystart=start_xyz[order[1] - 1],
            nzstart=start_xyz[order[2] - 1],
            mx=60,
            my=50,
            mz=40,
            cella=(60.0, 50.0, 40.0),
            origin=(3.75, -2.5, 1.25),
        )
        read = read_map(path)
        np.testing.assert_array_equal(read.data, expected)
        assert read.geometry == geometry
        assert read_summary(path).box_xyz == SHAPE[::-1]
        assert read_summary(path).nstart_xyz == start_xyz
        assert read_summary(path).axis_order_xyz == ", ".join("xyz"[axis - 1] for axis in order)

    @pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, bytes])
    @pytest.mark.parametrize("name", ["a.mrc", "a.map.gz", "a.ccp4.bz2"])
    def test_compression_is_told_by_content_and_hashed_as_it_lies_on_disk(self, tmp_path: Path, pack: Any, name: str) -> None:
        plain = make_file(tmp_path / "plain.mrc").read_bytes()
        path = tmp_path / name
        path.write_bytes(pack(plain))
        read = read_map(path)
        np.testing.assert_array_equal(read.data, values())
        assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert read.name == name

    def test_the_extended_header_is_skipped(self, tmp_path: Path) -> None:
        path = make_file(tmp_path / "a.mrc")
        raw = path.read_bytes()
        path.write_bytes(
            raw[:92] + (160).to_bytes(4, "little") + raw[96:104] + b"SERI" + raw[108:1024] + b"\7" * 160 + raw[1024:]
        )
        np.testing.assert_array_equal(read_map(path).data, values())
        summary = read_summary(path)
        assert (summary.extended_header_bytes, summary.extended_header_type) == (160, "SERI")

    def test_bytes_after_the_map_are_read_for_the_hash_alone(self, tmp_path: Path) -> None:
        path = make_file(tmp_path / "a.mrc")
        path.write_bytes(path.read_bytes() + b"more")
        read = read_map(path)
        np.testing.assert_array_equal(read.data, values())
        assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    @pytest.mark.parametrize("big_endian", [False, True])
    def test_a_bad_machine_stamp_is_resolved_by_the_box(
        self, tmp_path: Path, big_endian: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = make_file(tmp_path / "a.mrc")
        if big_endian:
            swapped(path)
        patch(path, 212, bytes([0, 0, 0x44, 0x44]))
        with caplog.at_level(logging.INFO, logger="emhance"):
            np.testing.assert_array_equal(read_map(path).data, values())
        assert "machine stamp" in caplog.text

    def test_a_wrong_machine_stamp_is_overruled_by_the_box(self, tmp_path: Path) -> None:
        path = patch(make_file(tmp_path / "a.mrc"), 212, bytes([0x11, 0x11, 0, 0]))
        np.testing.assert_array_equal(read_map(path).data, values())

    def test_other_harmless_flaws_are_accepted(self, tmp_path: Path) -> None:
        path = make_file(tmp_path / "a.mrc", map=b"", nlabl=77, nversion=0, cellb=(0, 0, 0))
        np.testing.assert_array_equal(read_map(path).data, values())
        path = make_file(tmp_path / "b.mrc", mapc=0, mapr=0, maps=0)
        np.testing.assert_array_equal(read_map(path).data, values())

    def test_a_volume_of_space_group_0_is_a_volume(self, tmp_path: Path) -> None:
        assert read_map(make_file(tmp_path / "a.mrc", ispg=0)).geometry.space_group == 0

    def test_the_voxel_size_given_overrides_the_header(self, tmp_path: Path) -> None:
        path = make_file(tmp_path / "a.mrc", cella=(0, 0, 0), mx=0, my=0, mz=0)
        assert read_map(path, voxel_size=1.25).geometry == Geometry(shape=SHAPE, cell=(5.0, 6.25, 7.5), sampling=SHAPE)
        assert read_map(path, need_voxel_size=False).voxel_size == 0
        assert read_summary(path).voxel_size_xyz is None
        path = make_file(tmp_path / "b.mrc", cella=(9.0, 7.5, 12.0))
        assert read_map(path, voxel_size=1.25).voxel_size == 1.25

    def test_a_constant_map_can_be_allowed(self, tmp_path: Path) -> None:
        path = make_file(tmp_path / "a.mrc", np.zeros(SHAPE, np.float32))
        assert not read_map(path, allow_constant=True).data.any()

    def test_the_map_is_held_once(self, tmp_path: Path) -> None:
        data = np.zeros((96, 128, 160), np.int16)
        data[3, 4, 5] = 1
        path = make_file(tmp_path / "a.mrc", data, mapc=3, mapr=1, maps=2)
        tracemalloc.start()
        read = read_map(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1.3 * read.data.nbytes + 2 * mrc._SLAB_BYTES

    def test_summary_says_what_the_header_says(self, tmp_path: Path) -> None:
        path = swapped(make_file(tmp_path / "a.mrc", values().astype(np.int16), nxstart=-3))
        summary = read_summary(path)
        assert summary.format == "MRC2014"
        assert summary.mode_name == "int16"
        assert summary.byte_order == "big-endian"
        assert summary.box_xyz == (6, 5, 4)
        assert summary.voxel_size_xyz == (1.5, 1.5, 1.5)
        assert summary.nstart_xyz == (-3, 0, 0)
        assert summary.compression == "none"
        assert summary.maximum == values().astype(np.int16).max()
        with mrcfile.open(path, mode="r+") as file:
            file.reset_header_stats()
        summary = read_summary(path)
        assert (summary.minimum, summary.maximum, summary.mean, summary.std) == (None, None, None, None)


class TestBadInput:
    """One sentence that names the file, what was seen and what to do."""

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ({"ispg": 0, "mz": 1}, "stack of 4 images"),
            ({"ispg": 401}, "stack of volumes"),
            ({"ispg": 19}, "space group 19"),
            ({"mode": 101}, "mode 101"),
            ({"mode": 3}, "complex values"),
            ({"mode": 4}, "complex values"),
            ({"mapc": 1, "mapr": 1}, "axis order"),
            ({"cella": (0, 0, 0)}, "--voxel-size"),
            ({"cella": (np.nan, 1, 1)}, "--voxel-size"),
            ({"cella": (0.06, 0.05, 0.04)}, "--voxel-size"),
            ({"origin": (np.inf, 0, 0)}, "origin"),
        ],
    )
    def test_headers_that_are_not_one_map(self, tmp_path: Path, words: dict[str, Any], message: str) -> None:
        path = make_file(tmp_path / "bad.mrc", **words)
        with pytest.raises(MapFileError, match=message) as caught:
            read_map(path)
        one_sentence(caught.value, path)

    @pytest.mark.parametrize(
        ("words", "message"), [({"cella": (9.0, 7.5, 6.2)}, "differ by more than 1 %"), ({"cellb__gamma": 120}, "90, 90, 120")]
    )
    def test_cells_that_are_not_supported(self, tmp_path: Path, words: dict[str, Any], message: str) -> None:
        path = make_file(tmp_path / "bad.mrc", **words)
        with pytest.raises(GeometryError, match=message) as caught:
            read_map(path)
        one_sentence(caught.value, path)

    def test_a_relion_stack_is_known_by_its_name(self, tmp_path: Path) -> None:
        # RELION writes mz = nz for particle stacks
        with pytest.raises(MapFileError, match="stack of 4 images"):
            read_map(make_file(tmp_path / "particles.mrcs", ispg=0))

    def test_a_micrograph(self, tmp_path: Path) -> None:
        with pytest.raises(MapFileError, match="single 2-D image"):
            read_map(make_file(tmp_path / "bad.mrc", values()[0]))

    def test_files_that_are_not_there_or_not_maps(self, tmp_path: Path) -> None:
        cases = {
            "empty.mrc": (b"", "empty"),
            "text.mrc": (b"hello " * 500, "not an MRC file"),
            "short.mrc": (b"abc", "not an MRC"),
        }
        for name, (content, message) in cases.items():
            (tmp_path / name).write_bytes(content)
            with pytest.raises(MapFileError, match=message):
                read_map(tmp_path / name)
        with pytest.raises(MapFileError, match="no such file"):
            read_map(tmp_path / "missing.mrc")
        with pytest.raises(MapFileError, match="directory"):
            read_map(tmp_path)
        (tmp_path / "random.mrc").write_bytes(np.random.default_rng(0).bytes(5000))
        with pytest.raises(MapFileError, match="not an MRC file"):
            read_map(tmp_path / "random.mrc")

    def test_a_truncated_file_says_what_was_expected(self, tmp_path: Path) -> None:
        path = make_file(tmp_path / "bad.mrc")
        plain = path.read_bytes()
        path.write_bytes(plain[:-7])
        with pytest.raises(MapFileError, match="1504 bytes expected, 1497 found"):
            read_map(path)
        path.write_bytes(gzip.compress(plain[:-7]))
        with pytest.raises(MapFileError, match="1504 bytes expected, 1497 found"):
            read_map(path)

    @pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
    def test_a_damaged_archive(self, tmp_path: Path, pack: Any) -> None:
        packed = pack(make_file(tmp_path / "plain.mrc").read_bytes())
        path = tmp_path / "bad.mrc.gz"
        for damaged in (packed[:-100], packed[:-6] + b"\0\1\2\3\4\5", packed[:60] + b"\0" * 30 + packed[90:]):
            path.write_bytes(damaged)
            with pytest.raises(MapFileError, match="download it again"):
                read_map(path)

    def test_values_that_are_not_finite_are_counted_and_placed(self, tmp_path: Path) -> None:
        data = values()
        data[2, 3, 4], data[3, 0, 0], data[3, 1, 0] = np.nan, np.inf, -np.inf
        path = make_file(tmp_path / "bad.mrc")
        patch(path, 1024, data.tobytes())
        with pytest.raises(
            MapContentError, match=r"3 values that are NaN or infinite, the first at voxel x, y, z = 4, 3, 2"
        ) as caught:
            read_map(path)
        one_sentence(caught.value, path)

    def test_nan_of_half_precision(self, tmp_path: Path) -> None:
        path = make_file(tmp_path / "bad.mrc", values().astype(np.float16))
        with pytest.raises(MapContentError, match="1 value that is NaN"):
            read_map(patch(path, 1024 + 2 * 7, b"\x01\x7c"))  # a signalling NaN

    def test_a_constant_map(self, tmp_path: Path) -> None:
        with pytest.raises(MapContentError, match=r"every voxel is 2\.5"):
            read_map(make_file(tmp_path / "bad.mrc", np.full(SHAPE, 2.5, np.float32)))

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 223), st.binary(min_size=1, max_size=12))
    def test_a_damaged_header_is_read_or_refused(self, tmp_path_factory: pytest.TempPathFactory, at: int, content: bytes) -> None:
        path = patch(make_file(tmp_path_factory.mktemp("fuzz") / "a.mrc"), at, content)
        with contextlib.suppress(MapFileError, MapContentError, GeometryError):
            assert read_summary(path).box_xyz
            assert read_map(path).data.size <= values().size


def one_sentence(error: Exception, path: Path) -> None:
    text = str(error)
    assert str(path) in text
    assert "\n" not in text
    assert text.endswith(".")


class TestWriting:
    GEOMETRY = Geometry(
        shape=SHAPE,
        cell=(float(np.float32(4.4)), float(np.float32(5.5)), float(np.float32(6.6))),
        sampling=SHAPE,
        origin=(float(np.float32(0.1)), -2.5, 0.125),
        nstart=(3, -4, 5),
        space_group=1,
    )

    @pytest.mark.parametrize("name", ["a.mrc", "a.map.gz", "a.mrc.bz2"])
    def test_what_is_written_is_read_back_to_the_word(self, tmp_path: Path, name: str) -> None:
        written = DensityMap(values(), self.GEOMETRY, labels=("first", "second  two"))
        write_map(tmp_path / name, written)
        read = read_map(tmp_path / name)
        np.testing.assert_array_equal(read.data, written.data)
        assert read.geometry == written.geometry
        assert read.labels == written.labels
        assert [p.name for p in tmp_path.iterdir()] == [name]

    @pytest.mark.parametrize("space_group", [0, 1])
    def test_a_crop_of_a_larger_cell_keeps_every_word(self, tmp_path: Path, space_group: int) -> None:
        geometry = replace(self.GEOMETRY, cell=(440.0, 440.0, 440.0), sampling=(400, 400, 400), space_group=space_group)
        write_map(tmp_path / "a.mrc", DensityMap(values(), geometry))
        first = (tmp_path / "a.mrc").read_bytes()
        write_map(tmp_path / "b.mrc", read_map(tmp_path / "a.mrc"))
        assert (tmp_path / "b.mrc").read_bytes() == first
        assert read_map(tmp_path / "b.mrc").geometry == geometry

    def test_mrcfile_finds_the_file_valid_and_the_statistics_right(self, tmp_path: Path) -> None:
        write_map(tmp_path / "a.mrc", DensityMap(values() + 1000, self.GEOMETRY, labels=("x" * 200, "Å µ")))
        assert mrcfile.validate(tmp_path / "a.mrc")
        with mrcfile.open(tmp_path / "a.mrc") as file:
            assert file.header.mode == 2
            assert file.header.rms == pytest.approx(np.std(values(), dtype=np.float64), rel=1e-5)
            assert file.header.dmean == pytest.approx(np.mean(values() + 1000, dtype=np.float64), rel=1e-6)
            assert file.get_labels() == ["x" * 80, "A ?" + " " * 77]

    def test_of_too_many_labels_the_first_and_the_last_stay(self, tmp_path: Path) -> None:
        labels = tuple(f"label {i}" for i in range(14))
        write_map(tmp_path / "a.mrc", DensityMap(values(), self.GEOMETRY, labels=labels))
        assert read_map(tmp_path / "a.mrc").labels == (labels[0], *labels[5:])

    def test_an_array_in_another_order_is_written_right(self, tmp_path: Path) -> None:
        data = np.asfortranarray(values())
        write_map(tmp_path / "a.mrc", DensityMap(data, self.GEOMETRY))
        np.testing.assert_array_equal(read_map(tmp_path / "a.mrc").data, data)

    def test_an_existing_file_is_kept(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mrc"
        path.write_text("mine")
        with pytest.raises(OutputError, match="exists already"):
            write_map(path, DensityMap(values(), self.GEOMETRY))
        assert path.read_text() == "mine"
        write_map(path, DensityMap(values(), self.GEOMETRY), overwrite=True)
        np.testing.assert_array_equal(read_map(path).data, values())

    @pytest.mark.parametrize("name", ["a.mrc", "a.mrc.gz"])
    def test_a_full_disk_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        def full(data: np.ndarray) -> Any:
            yield data[:1]
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        geometry_map = DensityMap(values(), self.GEOMETRY)
        statistics = mrc._statistics(geometry_map.data)
        monkeypatch.setattr(mrc, "_statistics", lambda data: statistics)
        monkeypatch.setattr(mrc, "_slabs", full)
        with pytest.raises(OutputError, match="disk is full"):
            write_map(tmp_path / name, geometry_map)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.shared_data
def test_real_files_read_like_mrcfile_reads_them(shared: Path) -> None:
    read = read_map(shared / "real" / "emd_2867_crop.mrc.gz")  # axis order 3, 2, 1 in a larger cell
    assert read.geometry.nstart == (-52, -59, -2)
    assert read.geometry.sampling == (250, 210, 210)
    assert read.geometry.cell == (296.5, pytest.approx(249.06), pytest.approx(249.06))
    with mrcfile.open(shared / "real" / "emd_2867_crop.mrc.gz") as file:
        np.testing.assert_array_equal(read.data, file.data.transpose(2, 1, 0))
    bad_stamp = read_map(shared / "real" / "vp6_segment.mrc.gz")
    assert bad_stamp.data.shape == (96, 96, 96)
