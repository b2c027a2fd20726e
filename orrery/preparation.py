"""Raw data, read, validated and given a version: the first step of a release."""

from dataclasses import replace

from orrery.adapters.data_versions import DataVersion, DataVersions, NoData
from orrery.errors import OrreryError
from orrery.lifecycle import Snapshot
from orrery.settings import Settings
from orrery.usecase import Progress, SourceRequest, Training, silent

LOGGED = "log"
"""the source of what was collected from served requests: every use case has it that says how they become raw rows"""


class UnknownSource(OrreryError):
    """The use case does not read from there."""


def data_versions(settings: Settings) -> DataVersions:
    """The data versions of this installation."""
    return DataVersions(settings.data_folder, settings.data.remote)


def current(use_case: str, settings: Settings) -> Snapshot:
    """The current version of the raw data. Raises NoData before the first."""
    versions = data_versions(settings)
    version = versions.current(use_case)
    if version is None:
        raise NoData(f"there are no data of {use_case} yet; run `orrery data prepare {use_case}`")
    return snapshot(version, versions)


def prepared(use_case: str, settings: Settings) -> Snapshot:
    """The current raw data, or the newest that did not come from what was served: they know labels yet to arrive.

    Raises NoData where there are none.
    """
    versions = data_versions(settings)
    known = [*versions.versions(use_case), versions.current(use_case)]
    found = [each for each in known if each and each.source.source != LOGGED]
    if not found:
        raise NoData(f"there are no data of {use_case} yet; run `orrery data prepare {use_case}`")
    return snapshot(found[-1], versions)


def snapshot(version: DataVersion, versions: DataVersions) -> Snapshot:
    """A version as the lifecycle passes it on."""
    path = versions.path_of(version)
    return Snapshot(version.use_case, path, version.version, version.counts, version.source.sample)


def prepare(
    use_case: str,
    training: Training,
    request: SourceRequest,
    settings: Settings,
    progress: Progress = silent,
    *,
    fresh: bool = False,
) -> Snapshot:
    """Read, validate and version raw data.

    An empty `request.source` asks for nothing in particular: the current version, or the first source where there is
    none. The current version is also reused when the same request to a built-in source made it, unless `fresh`.
    Raises UnknownSource, NotStored, RemoteUnavailable, Busy, and what the source and its validation raise.
    """
    versions = data_versions(settings)
    present = versions.current(use_case)
    if request.source not in ("", *training.sources):
        known = ", ".join(training.sources)
        raise UnknownSource(f"{use_case} has no source {request.source!r}; choose from: {known}")
    if present and not fresh and (not request.source or _repeats(request, present)):
        return snapshot(present, versions)
    request = replace(request, source=request.source or next(iter(training.sources)))
    frame = training.sources[request.source](request, progress)
    progress("validate", 0, 1)
    valid = training.validate(frame)
    progress("validate", 1, 1)
    progress("version", 0, 1)
    version = versions.add(use_case, valid, training.describe(valid), request)
    progress("version", 1, 1, version.short)
    return snapshot(version, versions)


def _repeats(request: SourceRequest, present: DataVersion) -> bool:
    """A built-in source says the same again; a file may have changed."""
    return request == present.source and request.path is None
