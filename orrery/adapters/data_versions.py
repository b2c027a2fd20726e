"""Versions of raw data, kept by DVC: named by the md5 of the Parquet file, so the same rows are the same version."""

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from orrery.adapters.locks import Busy
from orrery.errors import OrreryError, TransientError
from orrery.usecase import SourceRequest

if TYPE_CHECKING:
    import pandas as pd

_FILE = "raw.parquet"
_RECORD = "version.json"
_WAIT_SECONDS = 120


class NoData(OrreryError):
    """Nothing was prepared yet."""


class UnknownVersion(OrreryError):
    """No version, or more than one, has that name."""


class NotStored(OrreryError):
    """The disk did not take the data."""


class RemoteUnavailable(TransientError):
    """The DVC remote did not take or give the data."""


class DataVersion(BaseModel):
    """What is known of one version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    use_case: str
    version: str
    """md5 of the Parquet file, as DVC counts it, hex"""
    counts: Mapping[str, int]
    source: SourceRequest
    created_at: datetime

    @property
    def short(self) -> str:
        """Enough of the version to name it by."""
        return self.version[:8]


class DataVersions:
    """A DVC repository without git under `root`.

    `<root>/<use_case>/versions/<version>/` holds the data, DVC's file and, written last, our record of it;
    `<root>/<use_case>/raw.parquet` is a link to the current one.
    """

    def __init__(self, root: Path, remote: str = "") -> None:
        """`remote` is a folder or an s3:// address; empty: a folder inside `root`."""
        self.root = root.absolute()
        self.remote = remote if "://" in remote else str(Path(remote).absolute() if remote else self.root / "remote")

    def add(
        self, use_case: str, frame: "pd.DataFrame", counts: Mapping[str, int], source: SourceRequest
    ) -> DataVersion:
        """Keep the rows, push them to the remote, and make them current; known rows are only made current.

        Raises NotStored, RemoteUnavailable, Busy. Nothing is listed or current before all of it is kept.
        """
        with _disk(self.root), self._alone():
            home = self.root / use_case
            home.mkdir(exist_ok=True)
            incoming = home / ".incoming.parquet"
            try:
                _write_parquet(frame, incoming)
                with incoming.open("rb") as file:
                    version = hashlib.file_digest(file, "md5").hexdigest()
                if self._read(use_case, version) is None:
                    self._keep(use_case, version, incoming)
                    self._record(use_case, version, counts, source)
            finally:
                incoming.unlink(missing_ok=True)
        return self.checkout(use_case, version)

    def current(self, use_case: str) -> DataVersion | None:
        """The version that training reads; None before the first."""
        link = self.root / use_case / _FILE
        return self._read(use_case, link.readlink().parent.name) if link.is_symlink() else None

    def path(self, use_case: str) -> Path:
        """The current version's Parquet file. Raises NoData, RemoteUnavailable."""
        current = self.current(use_case)
        if current is None:
            raise NoData(f"there are no data of {use_case} yet; run `orrery data prepare {use_case}`")
        return self.path_of(current)

    def path_of(self, version: DataVersion) -> Path:
        """A version's Parquet file, restored if it was lost. It never changes: another version has its own.

        Raises RemoteUnavailable, Busy.
        """
        path = self._folder(version.use_case, version.version) / _FILE
        if not path.is_file():
            with _disk(self.root), self._alone():
                self._restore(path)
        return path

    def versions(self, use_case: str) -> list[DataVersion]:
        """Every version, the oldest first."""
        folders = (self.root / use_case / "versions").glob("*/")
        found = [record for folder in folders if (record := self._read(use_case, folder.name))]
        return sorted(found, key=lambda record: record.created_at)

    def checkout(self, use_case: str, version: str) -> DataVersion:
        """Make a version current, by its name or the start of it; lost or changed data come back from cache or remote.

        Raises UnknownVersion, RemoteUnavailable, Busy.
        """
        known = self.versions(use_case)
        found = [record for record in known if version and record.version.startswith(version)]
        if len(found) != 1:
            names = ", ".join(record.short for record in known) or "none"
            how_many = "more than one version" if found else "no version"
            raise UnknownVersion(f"{use_case} has {how_many} {version!r}; there are: {names}")
        with _disk(self.root), self._alone():
            path = self._folder(use_case, found[0].version) / _FILE
            self._restore(path)
            _point(self.root / use_case / _FILE, path)
        return found[0]

    def _folder(self, use_case: str, version: str) -> Path:
        return self.root / use_case / "versions" / version

    def _read(self, use_case: str, version: str) -> DataVersion | None:
        path = self._folder(use_case, version) / _RECORD
        return DataVersion.model_validate_json(path.read_bytes()) if path.is_file() else None

    def _keep(self, use_case: str, version: str, incoming: Path) -> None:
        path = self._folder(use_case, version) / _FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        incoming.replace(path)
        with self._repository() as repository:
            repository.add(str(path))
            with self._reached("take"):
                repository.push(targets=[f"{path}.dvc"])

    def _restore(self, path: Path) -> None:
        with self._repository() as repository, self._reached("give"):
            repository.pull(targets=[f"{path}.dvc"], force=True)

    def _record(self, use_case: str, version: str, counts: Mapping[str, int], source: SourceRequest) -> None:
        made = datetime.now(UTC)
        record = DataVersion(use_case=use_case, version=version, counts=counts, source=source, created_at=made)
        _replace(self._folder(use_case, version) / _RECORD, record.model_dump_json(indent=1))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        self.root.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.root / ".lock", timeout=_WAIT_SECONDS):
                yield
        except Timeout as error:
            raise Busy(f"another process prepares data in {self.root}; try again when it has ended") from error

    @contextmanager
    def _repository(self) -> Iterator[Any]:
        from dvc.repo import Repo

        for name in ("dvc", "dvc_data", "dvc_objects"):  # they hold stderr as it was at the import; it may be closed
            logging.getLogger(name).handlers.clear()
        (self.root / ".dvc").mkdir(exist_ok=True)
        _replace(self.root / ".dvc" / "config", _CONFIG.format(root=self.root, remote=self.remote))
        with Repo(str(self.root)) as repository:
            yield repository

    @contextmanager
    def _reached(self, verb: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError
        from dvc.exceptions import DvcException

        try:
            yield
        except (DvcException, BotoCoreError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise RemoteUnavailable(
                f"the DVC remote {self.remote} did not {verb} the data ({reason}); check ORRERY_DATA__REMOTE"
            ) from error


# all that `dvc init` would write; nothing outside the root, no telemetry
_CONFIG = """\
[core]
    no_scm = True
    analytics = False
    check_update = False
    remote = storage
    site_cache_dir = {root}/.dvc/site
[cache]
    type = "reflink,hardlink,copy"
['remote "storage"']
    url = {remote}
"""


def _write_parquet(frame: "pd.DataFrame", path: Path) -> None:
    """The same rows give the same bytes: no pandas metadata, no index, nothing of the moment."""
    from pyarrow import Table, parquet

    table = Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    parquet.write_table(table, path, compression="zstd", coerce_timestamps="us")


@contextmanager
def _disk(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotStored(
            f"the data cannot be stored under {root}: {error}; make room or set ORRERY_DATA__ROOT"
        ) from error


def _replace(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new one."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(text)
    scratch.replace(path)


def _point(link: Path, target: Path) -> None:
    scratch = link.with_name(f".{link.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(target.relative_to(link.parent))
    scratch.replace(link)
