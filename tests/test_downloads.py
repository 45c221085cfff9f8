"""Downloads from a server on this machine that closes connections, refuses, ignores ranges and sends wrong data."""

import errno
import hashlib
import http.server
import io
import threading
from pathlib import Path

import pytest
from rich.console import Console

from vitreous import downloads
from vitreous.downloads import Archive, cache_dir, fetch, fetch_cached, user_data_dir
from vitreous.errors import InputError

CONTENT = bytes(range(256)) * 4000  # about 1 MB: several blocks


class Handler(http.server.BaseHTTPRequestHandler):
    """Serve CONTENT; the server's `script` lists what goes wrong with each request."""

    def do_GET(self):
        fault = self.server.script.pop(0) if self.server.script else ""
        requested = self.headers.get("Range")
        self.server.requests.append(requested)
        if fault.isdigit():
            self.send_error(int(fault))
            return
        start = int(requested.removeprefix("bytes=").rstrip("-")) if requested and fault != "no ranges" else 0
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.script, listening.requests = [], []
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield listening
        listening.shutdown()
        thread.join()


@pytest.fixture
def archive(server):
    address = f"http://127.0.0.1:{server.server_address[1]}/set.tar.gz"
    return Archive(address, hashlib.md5(CONTENT).hexdigest(), len(CONTENT))


def fetch_without_waiting(archive: Archive, folder: Path) -> tuple[Path, list[float]]:
    waits = []
    return fetch(archive, folder, wait=waits.append), waits


def error_of(archive: Archive, folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        fetch_without_waiting(archive, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_download_is_complete_and_happens_once(server, archive, tmp_path):
    path, waits = fetch_without_waiting(archive, tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT and path.name == "set.tar.gz" and waits == []
    fetch_without_waiting(archive, path.parent)
    assert server.requests == [None]
    assert [child.name for child in path.parent.iterdir() if not child.name.startswith(".")] == ["set.tar.gz"]


def test_progress_is_shown_on_a_terminal_only(archive, tmp_path, monkeypatch, capsys):
    fetch_without_waiting(archive, tmp_path / "quiet")
    assert capsys.readouterr() == ("", "")
    shown = io.StringIO()
    monkeypatch.setattr(downloads, "Console", lambda stderr: Console(file=shown, force_terminal=True, width=100))
    fetch_without_waiting(archive, tmp_path / "shown")
    assert "set.tar.gz" in shown.getvalue() and "1.0/1.0 MB" in shown.getvalue()


def test_a_closed_connection_is_resumed_where_it_ended(server, archive, tmp_path):
    server.script[:] = ["cut", "cut", "503"]
    path, waits = fetch_without_waiting(archive, tmp_path)
    half, three_quarters = len(CONTENT) // 2, len(CONTENT) * 3 // 4
    assert server.requests == [None, f"bytes={half}-", f"bytes={three_quarters}-", f"bytes={three_quarters}-"]
    assert path.read_bytes() == CONTENT and waits == [1.0, 2.0, 4.0]


def test_a_partial_download_of_an_earlier_run_is_resumed(server, archive, tmp_path):
    (tmp_path / "set.tar.gz.part").write_bytes(CONTENT[:1000])
    path, _ = fetch_without_waiting(archive, tmp_path)
    assert server.requests == ["bytes=1000-"] and path.read_bytes() == CONTENT


def test_a_finished_part_needs_no_connection(server, archive, tmp_path):
    (tmp_path / "set.tar.gz.part").write_bytes(CONTENT)
    assert fetch_without_waiting(archive, tmp_path)[0].read_bytes() == CONTENT
    assert server.requests == []


def test_a_server_without_ranges_is_read_from_the_start(server, archive, tmp_path):
    server.script[:] = ["cut", "no ranges"]
    assert fetch_without_waiting(archive, tmp_path)[0].read_bytes() == CONTENT


def test_a_refused_range_starts_over(server, archive, tmp_path):
    (tmp_path / "set.tar.gz.part").write_bytes(b"of another file")
    server.script[:] = ["416"]
    assert fetch_without_waiting(archive, tmp_path)[0].read_bytes() == CONTENT
    assert server.requests == ["bytes=15-", None]


def test_retries_are_bounded_and_the_part_is_kept_for_the_next_time(server, archive, tmp_path):
    server.script[:] = ["cut"] * 100
    line = error_of(archive, tmp_path)
    assert "the connection closed after" in line and "VITREOUS_DATA" in line
    assert len(server.requests) == downloads.ATTEMPTS
    assert (tmp_path / "set.tar.gz.part").stat().st_size > len(CONTENT) // 2


def test_the_error_of_a_wrong_checksum_names_both_and_the_file_is_removed(server, archive, tmp_path):
    wrong = Archive(archive.url, "0" * 32, archive.size_bytes)
    line = error_of(wrong, tmp_path)
    assert "0" * 32 in line and archive.md5 in line
    assert not list(tmp_path.glob("set*"))


def test_a_longer_file_than_published_is_not_read_to_its_end(archive, tmp_path):
    error_of(Archive(archive.url, archive.md5, 1000), tmp_path)
    assert not list(tmp_path.glob("set*"))


def test_a_missing_file_is_not_requested_again(server, archive, tmp_path):
    server.script[:] = ["404"] * 100
    assert "404 Not Found" in error_of(archive, tmp_path)
    assert len(server.requests) == 1


def test_without_a_server_one_line_says_where_to_put_the_file(archive, tmp_path):
    nowhere = Archive("http://127.0.0.1:1/set.tar.gz", archive.md5, archive.size_bytes)
    line = error_of(nowhere, tmp_path / "cifar10")
    assert "connection refused" in line and str(tmp_path / "cifar10") in line and "VITREOUS_DATA=DIR" in line


def test_a_full_disk_is_a_one_line_error(archive, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(downloads, "flush_to_disk", full)
    assert "no space left on device" in error_of(archive, tmp_path)


def test_a_disk_that_fills_up_is_a_one_line_error(archive, tmp_path):
    (tmp_path / "set.tar.gz.part").symlink_to("/dev/full")
    assert "no space left on device" in error_of(archive, tmp_path)


def test_a_folder_that_cant_be_made_is_a_one_line_error(archive, tmp_path):
    (tmp_path / "file").write_text("")
    assert "can't make the folder" in error_of(archive, tmp_path / "file" / "folder")


def test_several_threads_download_once(server, archive, tmp_path):
    threads = [threading.Thread(target=fetch, args=(archive, tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.requests == [None] and (tmp_path / "set.tar.gz").read_bytes() == CONTENT


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.delenv("VITREOUS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "vitreous"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "vitreous"
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"


def test_user_data_goes_before_the_cache_and_the_cache_before_the_network(server, archive, monkeypatch, tmp_path):
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VITREOUS_DATA", str(tmp_path))
    assert fetch_cached(archive, "set") == tmp_path / "cache" / "set" / "set.tar.gz"
    assert fetch_cached(archive, "set") == tmp_path / "cache" / "set" / "set.tar.gz" and len(server.requests) == 1
    (tmp_path / "set").mkdir()
    assert user_data_dir("set") == tmp_path / "set"
    (tmp_path / "set" / "set.tar").write_bytes(b"unpacked")
    assert fetch_cached(archive, "set") == tmp_path / "set" / "set.tar"


def test_a_mistyped_data_folder_is_an_error(archive, monkeypatch, tmp_path):
    monkeypatch.setenv("VITREOUS_DATA", str(tmp_path / "typo"))
    with pytest.raises(InputError, match="typo is not a folder"):
        fetch_cached(archive, "set")


def test_where_the_file_system_has_no_locks_a_download_goes_on(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with downloads.file_lock(tmp_path / ".lock"):
        assert not list(tmp_path.iterdir())
