"""Find Chromium for the tests and figures of the pages, or install it.

Command:  python benchmarks/chromium.py        (what `make chromium` runs)

Chromium is the system's, or the one that Playwright has downloaded. To install it, root takes Debian's and Ubuntu's
package, everyone else Playwright's download. Without it the tests of the pages are skipped, so a failure is a line and
no error.
"""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

COMMANDS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DOWNLOADED = "chromium-*/chrome-linux*/chrome"
"""Where Playwright puts it in its folder."""
APT = ("apt-get", "-qq", "-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=20")
INSTALL_SECONDS = 240


@functools.cache
def find_chromium() -> str | None:
    """Return the path of a Chromium that starts; None if there is none."""
    folder = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH", Path.home() / ".cache" / "ms-playwright"))
    downloaded = sorted(map(str, folder.glob(DOWNLOADED)), reverse=True)
    return next(filter(starts, [*filter(None, map(shutil.which, COMMANDS)), *downloaded]), None)


def starts(path: str) -> bool:
    """Return whether a program starts: Ubuntu's chromium-browser without snap doesn't."""
    return run([path, "--version"], 60)


def run(command: list[str], seconds: float = INSTALL_SECONDS) -> bool:
    """Run a command quietly and return whether it succeeded."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def install_chromium() -> str | None:
    """Install Chromium, and return its path; None if it can't be installed."""
    may_use_apt = os.geteuid() == 0 and shutil.which("apt-get") is not None
    if may_use_apt:
        package = [*APT, "install", "--yes", "--no-install-recommends", "chromium"]
        run(package) or (run([*APT, "update"]) and run(package))
        find_chromium.cache_clear()
    if find_chromium() is None:
        run([sys.executable, "-m", "playwright", "install", *(["--with-deps"] if may_use_apt else []), "chromium"])
        find_chromium.cache_clear()
    return find_chromium()


def main() -> None:
    """Say where Chromium is, after installing it if need be."""
    path = find_chromium() or install_chromium()
    print(f"Chromium: {path}" if path else "Chromium can't be installed here: the tests of the pages will be skipped")


if __name__ == "__main__":
    main()
