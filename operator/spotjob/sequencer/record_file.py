"""Records in files: one JSON file per run, replaced as a whole, and held by one process at a time.

The lock is on a file beside it, since the record itself is another file after each write. The kernel drops it when its
holder dies, however that happens.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from pathlib import Path

from pydantic import ValidationError

from spotjob.core.sequence.ports import RECORD_FORMAT, RecordChanged, RecordUnreachable, check_format
from spotjob.core.sequence.runs import Run


class FileRecords:
    """Implements the port Records: `folder`/RUN.json, or the one file that is named."""

    def __init__(self, path: Path, one_file: bool) -> None:
        self._path, self._one_file = path, one_file
        self._lock: int | None = None

    @classmethod
    def at(cls, path: Path) -> FileRecords:
        """A folder when there is one or the name ends with a slash or has no suffix; else one file."""
        return cls(path, one_file=not path.is_dir() and path.suffix != "")

    def where(self, run_id: str) -> Path:
        return self._path if self._one_file else self._path / f"{run_id}.json"

    async def load(self, run_id: str) -> tuple[Run, int] | None:
        self._hold(run_id)
        found = self._read(run_id)
        return found if found is None or found[0].id == run_id else None

    async def save(self, run: Run, version: int) -> int:
        self._hold(run.id)
        found = self._read(run.id)
        again = found == (run, version + 1)  # it was written, and then the disk complained
        if not again:
            self._may_write(found, run.id, version)
        document = {"format": RECORD_FORMAT, "version": version + 1, "run": run.wire()}
        try:
            _replace(self.where(run.id), json.dumps(document, indent=1))
        except OSError as error:
            raise RecordUnreachable(f"{self.where(run.id)}: {error.strerror}") from error
        return version + 1

    def _may_write(self, found: tuple[Run, int] | None, run_id: str, version: int) -> None:
        """Raises RecordChanged, and RecordUnreachable for a new run over one that is not over."""
        there, newest = found or (None, 0)
        if there is not None and there.id != run_id:
            if version == 0 and not there.state.over:
                raise RecordUnreachable(
                    f"{self._path} holds run {there.id}, which is not over: --resume {there.id} takes it up, another "
                    "--state leaves it alone"
                )
            newest = 0
        if version != newest:
            raise RecordChanged(f"{self.where(run_id)} has been written by somebody else")

    def close(self) -> None:
        """Let another process drive the run."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _hold(self, run_id: str) -> None:
        if self._lock is not None:
            return
        path = self.where(run_id)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise RecordUnreachable(f"{path}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise RecordChanged(f"another process drives the run of {path}") from error
        self._lock = lock

    def _read(self, run_id: str) -> tuple[Run, int] | None:
        path = self.where(run_id)
        try:
            document = json.loads(path.read_text())
            check_format(int(document.get("format", RECORD_FORMAT)), str(path))
            return Run.model_validate(document["run"]), int(document["version"])
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RecordUnreachable(f"{path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
            raise RecordUnreachable(f"{path} is no record of a run") from error


def _replace(path: Path, text: str) -> None:
    """The whole file or the old one, and on the disk when this returns. mkstemp makes it readable by its owner only."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
