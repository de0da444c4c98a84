"""What a run has written into its folder, by name: the proof that it is a run's, and of what `--overwrite` may remove.

    ledger = Ledger(folder)
    ledger.add("metrics.jsonl")                   before the file is there, so that a crash leaves nothing unknown
    ledger.remove("checkpoints/step-00000500")    what is in there and of the run

A link in the place of a file or a folder is not followed.
"""

import json
import os
from contextlib import suppress
from pathlib import Path, PurePosixPath

from glassformer import files, strict_json
from glassformer.errors import CheckpointCorrupt

FILE = "written.json"


class Ledger:
    """The names of a run's files, as they stand in `written.json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> set[str]:
        """No names where nothing proves that a run has written here."""
        path = self.folder / FILE
        try:
            content = strict_json.read(path) if path.is_file() else {}
        except CheckpointCorrupt:
            content = {}
        names = content.get("files")
        if content.get("format") != 1 or not isinstance(names, list) or FILE not in names:
            return set()
        with files.errors_about(path):
            for name in names:
                files.check_name(str(name))
        return {str(name) for name in names}

    def add(self, *names: str) -> None:
        """Note files that are about to be written."""
        before = self.names()
        if not before.issuperset(names):
            self._write(before | {FILE, *names})

    def remove(self, *places: str) -> None:
        """Remove the run's files of these names, or in folders of these names, and folders in which nothing is left."""
        before, wanted = self.names(), set(places)
        gone: set[PurePosixPath] = set()
        for name in map(PurePosixPath, sorted(before)):
            if place := next((each for each in (name, *name.parents) if str(each) in wanted), None):
                gone.add(name)
                path = self.folder / name
                if path.is_file() and not self.link(str(name), str(place)):
                    path.unlink()
        folders = {parent for name in gone for parent in name.parents if parent.parts}
        for parent in sorted(folders, key=lambda parent: len(parent.parts), reverse=True):
            with suppress(OSError):  # others have put something into it
                (self.folder / parent).rmdir()
        if gone:
            self._write(before - set(map(str, gone)))

    def rename(self, before: str, after: str) -> None:
        """Give a folder another name."""
        names = self.names()
        moved = {name for name in names if PurePosixPath(name).is_relative_to(before)}
        self.add(*(str(after / PurePosixPath(name).relative_to(before)) for name in moved))
        os.rename(self.folder / before, self.folder / after)
        self._write(self.names() - moved)

    def link(self, name: str, place: str = "") -> Path | None:
        """The link, if there is one, through which a name leads, at `place` or below it."""
        home, parts = self.folder / place, PurePosixPath(name).relative_to(place).parts
        way = [home.joinpath(*parts[:n]) for n in range(0 if place else 1, len(parts) + 1)]
        return next((path for path in way if path.is_symlink()), None)

    def strangers(self, place: str = "") -> list[Path]:
        """What is in the folder, or in one of its folders, and not of the run."""
        names = [PurePosixPath(name) for name in self.names()]
        ours = {*names, *(parent for name in names for parent in name.parents)}
        home = self.folder / place
        entries = sorted(home.iterdir()) if home.is_dir() else []
        return [path for path in entries if PurePosixPath(path.relative_to(self.folder)) not in ours]

    def _write(self, names: set[str]) -> None:
        content = {"format": 1, "files": sorted(names)}
        files.write_file(self.folder / FILE, (json.dumps(content, indent=1) + "\n").encode(), overwrite=True)
