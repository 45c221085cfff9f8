"""Files are whole or absent, whatever happens while they are written."""

import errno
from pathlib import Path

import pytest

from vitreous import files
from vitreous.errors import InputError
from vitreous.files import (
    atomic_folder,
    atomic_write,
    check_folder_writable,
    check_writable,
    only_below,
    remove_partial,
    write_text,
)


def test_an_incomplete_file_leaves_the_old_one(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(ZeroDivisionError), atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("ne")
        1 / 0  # noqa: B018
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_reported_in_one_line(tmp_path):
    with pytest.raises(InputError, match="no space left on device"), atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_read_only_disk_is_reported_for_the_final_file(tmp_path, monkeypatch):
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(InputError, match=r"can't write .*/a\.txt: read-only file system"):
        write_text(tmp_path / "a.txt", "new")


def test_errors_about_other_files_are_raised_unchanged(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a.txt"):
        (tmp_path / "missing").read_text()


def test_a_folder_that_is_deleted_after_the_move_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_flush_folder", lambda folder: files.flush_to_disk(folder / "gone"))
    with pytest.raises(FileNotFoundError):  # another path is a bug
        write_text(tmp_path / "run" / "a.txt", "")
    flush = files.flush_to_disk
    monkeypatch.setattr(files, "_flush_folder", lambda folder: flush(folder.rename(tmp_path / "moved") and folder))
    with pytest.raises(InputError, match=r"can't write .*/a\.txt: no such file or directory$"):
        write_text(tmp_path / "run" / "a.txt", "")


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="can't make the folder"):
        write_text(tmp_path / "file" / "a.txt", "")


def test_a_folder_that_is_gone_is_not_made_again(tmp_path):
    run = tmp_path / "run"
    for target in (run / "a.txt", run / "figures" / "a.txt", run / "a" / "b" / "c.txt"):
        with pytest.raises(InputError, match="no such file or directory"), only_below(run):
            write_text(target, "")
    assert not run.exists()
    with only_below(run):
        write_text(tmp_path / "other" / "a.txt", "")
        run.mkdir()
        write_text(run / "a" / "b" / "c.txt", "")
    write_text(tmp_path / "new" / "run" / "a.txt", "")
    assert len(list(tmp_path.rglob("*.txt"))) == 3


def test_the_suffix_is_kept_and_folders_are_created(tmp_path):
    with atomic_write(tmp_path / "new" / "a.png") as temporary:
        assert temporary.suffix == ".png" and temporary.parent == tmp_path / "new"
        temporary.write_bytes(b"x")
    assert (tmp_path / "new" / "a.png").read_bytes() == b"x"


def test_writing_nothing_is_an_assertion_error(tmp_path):
    with pytest.raises(AssertionError, match="nothing was written"), atomic_write(tmp_path / "a.txt"):
        pass


def test_a_folder_is_complete_or_absent(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "out") as temporary:
        (temporary / "a.txt").write_text("half")
        1 / 0  # noqa: B018
    assert not list(tmp_path.iterdir())
    with atomic_folder(tmp_path / "out") as temporary:
        (temporary / "a.txt").write_text("whole")
    assert (tmp_path / "out" / "a.txt").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_writers_of_one_process_have_files_of_their_own(tmp_path):
    """Threads, and containers whose processes all have the same number."""
    with atomic_write(tmp_path / "a.txt") as first, atomic_write(tmp_path / "a.txt") as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a.txt").read_text() == "first"
    with (
        atomic_folder(tmp_path / "x") as first,
        pytest.raises(ZeroDivisionError),
        atomic_folder(tmp_path / "x") as second,
    ):
        assert first != second
        1 / 0  # noqa: B018
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "x"]


@pytest.mark.parametrize("name", ["x" * 251 + ".mp4", "字" * 84 + ".md"])
def test_the_longest_names_can_be_written(name, tmp_path):
    write_text(tmp_path / name, "text")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_system_that_cannot_flush_folders(tmp_path, monkeypatch):
    flush = files.flush_to_disk

    def refuse_folders(path: Path) -> None:
        if path.is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(path)

    monkeypatch.setattr(files, "flush_to_disk", refuse_folders)
    write_text(tmp_path / "a.txt", "text")
    assert (tmp_path / "a.txt").read_text() == "text"


def test_what_kills_left_of_one_file_is_removed_and_nothing_else(tmp_path):
    names = [".a.1.part.txt", ".a.0f3c.part.txt", ".b.1.part.txt", ".a.1.part.png", "a.txt"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / ".a.2.part.txt").mkdir()
    remove_partial(tmp_path / "a.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names[2:], ".a.2.part.txt"])


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("file/a.png", "file is a file; choose another folder"),
        ("file/new/a.png", "file is a file; choose another folder"),
        ("folder", "it is a folder; add a file name"),
        (f"{'a' * 300}.png", "file name too long"),
        ("/proc/a.png", "can't write into /proc: "),
        ("/proc/new/a.png", "can't make the folder /proc/new: "),
    ],
)
def test_what_cannot_be_written_is_known_before_the_work(target, words, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=words):
        check_writable(tmp_path / target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_the_check_before_the_work_leaves_nothing(tmp_path):
    write_text(tmp_path / "old.txt", "old")
    check_writable(tmp_path / "old.txt")
    check_writable(tmp_path / "new" / "folder" / "a.png")
    check_folder_writable(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["old.txt"] and (tmp_path / "old.txt").read_text() == "old"
