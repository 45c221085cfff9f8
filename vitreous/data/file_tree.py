"""List all files below a folder: without hidden ones, through links to folders, each folder once."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from vitreous.errors import InputError
from vitreous.files import os_error_reason

SYSTEM_FOLDERS = ("__MACOSX", "lost+found", "System Volume Information")
"""Folders of operating systems, not of users; they hold no images of users, though the first holds their names."""


def files_below(folder: Path) -> list[Path]:
    """Return the files below `folder`, sorted by path, and the broken links.

    Hidden names (`is_hidden`) are left out, with all that is below them. Links to folders are followed, except to a
    folder that contains the link and to a folder whose files are listed already. So a link only ever adds files,
    under its own name, and changes nothing for the others.

    Raises:
        InputError: a folder can't be read.
    """
    visited, files = set(), []
    links = [folder]
    while links:
        further: list[Path] = []
        for link in sorted(links):
            target = link.resolve()
            if target not in visited and (link == folder or not link.parent.resolve().is_relative_to(target)):
                files += _walk(link, visited, further)
        links = further
    return sorted(files)


def files_outside(folder: Path, excluded: Collection[Path]) -> Iterator[Path]:
    """Yield the files below `folder` that are in none of the folders `excluded`, without hidden ones.

    Links to folders aren't followed, and unreadable folders are passed over: no image is loaded from here.
    """
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not is_hidden(name) and Path(parent, name) not in excluded]
        yield from (Path(parent, name) for name in files if not is_hidden(name))


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is no user's, and is ignored with all that is in it."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def is_broken_link(path: Path) -> bool:
    """Whether this is a link whose target doesn't exist."""
    return path.is_symlink() and _mode(path) == 0


def _walk(folder: Path, visited: set[Path], links: list[Path]) -> Iterator[Path]:
    """Yield the files below a folder without following links; append the links to folders to `links`."""
    visited.add(folder.resolve())
    for entry in _entries(folder):
        path = folder / entry.name
        if entry.is_dir(follow_symlinks=False):
            if path.resolve() not in visited:
                yield from _walk(path, visited, links)
        elif S_ISDIR(_mode(path)):
            links.append(path)
        elif S_ISREG(_mode(path)) or is_broken_link(path):
            yield path


def _mode(path: Path) -> int:
    """Return the mode of a path's target, as in `stat`; 0 if there is none or it is not accessible."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder and not hidden."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not is_hidden(entry.name)]
    except OSError as error:
        raise InputError(f"can't read the folder {folder}: {os_error_reason(error)}") from error
