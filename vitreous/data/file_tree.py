"""All files under a folder: through links to folders too, without hidden ones, each folder once."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from vitreous.errors import InputError
from vitreous.files import reason


def files_under(folder: Path) -> list[Path]:
    """The files below `folder`, sorted by path, and the links that lead to nothing.

    What begins with a dot is left out, and so is all below it. Links to folders are followed, but not where they lead
    back to a folder that they lie in, or to one whose files are there already: so a link only ever adds files, under
    its own name, and leaves the others where they are.

    Raises:
        InputError: a folder can't be read.
    """
    seen, files = set(), []
    links = [folder]
    while links:
        ways: list[Path] = []
        for link in sorted(links):
            target = link.resolve()
            if target not in seen and (link == folder or not link.parent.resolve().is_relative_to(target)):
                files += _inside(link, seen, ways)
        links = ways
    return sorted(files)


def files_beside(folder: Path, classes: Collection[Path]) -> Iterator[Path]:
    """The files below `folder` that lie in none of the folders `classes`, without hidden ones.

    Links to folders aren't followed, and what can't be read is passed over: from here nothing is learned.
    """
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and Path(place, name) not in classes]
        yield from (Path(place, name) for name in files if not name.startswith("."))


def is_lost(path: Path) -> bool:
    """Whether this is a link that leads to nothing."""
    return path.is_symlink() and _mode(path) == 0


def _inside(folder: Path, seen: set[Path], links: list[Path]) -> Iterator[Path]:
    """The files below a folder that no link leads to; the links to folders are added to `links` for later."""
    seen.add(folder.resolve())
    for entry in _entries(folder):
        path = folder / entry.name
        if entry.is_dir(follow_symlinks=False):
            if path.resolve() not in seen:
                yield from _inside(path, seen, links)
        elif S_ISDIR(_mode(path)):
            links.append(path)
        elif S_ISREG(_mode(path)) or is_lost(path):
            yield path


def _mode(path: Path) -> int:
    """What kind of thing a path leads to, as in `stat`; 0 where it leads to nothing, or where one may not look."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds and isn't hidden."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(f"can't read the folder {folder}: {reason(error)}") from error
