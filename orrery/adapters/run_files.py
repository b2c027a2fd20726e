"""Files that come to a run long after it ended: reports on what its version answered."""

from pathlib import Path

from orrery.adapters.registry import Registry


class RunFiles(Registry):
    """Every call raises what the catalogue raises."""

    def add(self, run_id: str, folder: Path, place: str) -> str:
        """Put all files of `folder` into the run's folder `place`; returns that folder's address."""
        with self._asking() as client:
            client.log_artifacts(run_id, str(folder), place)
            return f"{client.get_run(run_id).info.artifact_uri}/{place}"

    def remove(self, run_id: str, place: str) -> None:
        """Delete the run's folder `place`; one that is not there is no error."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        with self._asking() as client:
            if client.list_artifacts(run_id, place):
                address = client.get_run(run_id).info.artifact_uri
                get_artifact_repository(address, tracking_uri=self._url).delete_artifacts(place)
