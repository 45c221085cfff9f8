"""Files are whole or absent, whatever happens while they are written."""

import errno
from pathlib import Path

import pytest

from vitreous.errors import InputError
from vitreous.files import atomic_folder, atomic_write, write_text


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


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="can't make the folder"):
        write_text(tmp_path / "file" / "a.txt", "")


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
