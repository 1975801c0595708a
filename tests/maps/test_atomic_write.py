"""Outputs appear whole or not at all, and nothing else stays behind."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from emhance.errors import OutputError
from emhance.maps import atomic_write
from emhance.maps.atomic_write import atomic_output, check_output

DEAD_PID = 2**22 + 1  # beyond the largest process number of Linux


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def write(path: Path, text: str, *, overwrite: bool = False, then: Callable[[], object] = lambda: None) -> None:
    with atomic_output(path, overwrite=overwrite) as temporary:
        temporary.write_text(text)
        then()


def raising(error: type[BaseException]) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def test_the_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    with atomic_output(target) as temporary:
        temporary.write_text("half")
        assert not target.exists()
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(f".out.json.emhance-{os.getpid()}-")
    assert target.read_text() == "half"
    assert names(tmp_path) == ["out.json"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_a_failure_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        write(tmp_path / "out", "half", then=raising(error))
    assert names(tmp_path) == []


def test_an_existing_file_is_kept_unless_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("old")
    with pytest.raises(OutputError, match=r"exists already.*--overwrite"):
        write(target, "new")
    assert target.read_text() == "old"
    write(target, "new", overwrite=True)
    assert target.read_text() == "new"
    assert names(tmp_path) == ["out"]


def test_a_failed_overwrite_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write(target, "ne", overwrite=True, then=raising(KeyboardInterrupt))
    assert target.read_text() == "old"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:
        forbid_links(monkeypatch)
    target = tmp_path / "out"
    with pytest.raises(OutputError, match="exists already"):
        write(target, "ours", then=lambda: target.write_text("theirs"))
    assert target.read_text() == "theirs"
    assert names(tmp_path) == ["out"]


def test_a_file_system_without_hard_links_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_links(monkeypatch)
    write(tmp_path / "out", "text")
    assert (tmp_path / "out").read_text() == "text"
    assert names(tmp_path) == ["out"]


def forbid_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", refuse)


def test_a_full_disk_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="disk is full"):
        write(tmp_path / "out", "begun", then=lambda: Path("/dev/full").write_text("more"))
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing/out", "folder .*missing does not exist"),
        ("folder", "is a directory"),
        ("file/out", "is not a folder"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_work(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=message):
        check_output(tmp_path / name, overwrite=True)
    with pytest.raises(OutputError, match=message):
        write(tmp_path / name, "text", overwrite=True)


def test_devices_are_never_replaced() -> None:
    with pytest.raises(OutputError, match="device"):
        check_output("/dev/null", overwrite=True)


def test_an_unwritable_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic_write.os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(OutputError, match="no permission"):
        check_output(tmp_path / "out")


def test_leftovers_of_dead_runs_are_removed_and_others_kept(tmp_path: Path) -> None:
    alive = f".out.emhance-{os.getppid()}-0123abcd.tmp"
    kept = [alive, f".other.emhance-{DEAD_PID}-0123abcd.tmp", ".out.tmp"]
    # A run of our own number that is not this one: containers give the same numbers again.
    gone = [f".out.emhance-{DEAD_PID}-0123abcd.tmp", f".out.emhance-{os.getpid()}-0123abcd.tmp"]
    for name in kept + gone:
        (tmp_path / name).write_text("")
    write(tmp_path / "out", "text")
    assert names(tmp_path) == sorted([*kept, "out"])


def test_two_writes_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    with atomic_output(tmp_path / "out", overwrite=True) as first:
        first.write_text("first")
        write(tmp_path / "out", "second", overwrite=True)
        assert first.exists()
    assert (tmp_path / "out").read_text() == "first"


def test_a_killed_run_leaves_no_output_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    target = tmp_path / "out"
    program = (
        "import os, sys\n"
        "from emhance.maps.atomic_write import atomic_output\n"
        "with atomic_output(sys.argv[1]) as t:\n"
        "    t.write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(target)], check=False).returncode == -9
    assert len(names(tmp_path)) == 1
    assert not target.exists()
    write(target, "whole")
    assert names(tmp_path) == ["out"]
