"""The catalogue keeps whole bundles under versions, registers a key once, and says quickly that it is down."""

import time

import pytest

from orrery.adapters.registry import Record, Registry, RegistryUnavailable, UnknownVersion
from orrery.bundle import BundleRefused
from orrery.settings import MlflowSettings


@pytest.fixture
def logged(registry, make_bundle, tmp_path):
    """Logs a run of a new bundle under a key; returns its id and digest."""
    plot = tmp_path / "curve.png"
    plot.write_bytes(b"png")

    def log(key):
        bundle = make_bundle()
        tags = {"idempotency_key": key, "data_version": "d"}
        record = Record("toy", key, {"trials": 3}, {"ap": 0.7, "ap_low": 0.6}, tags, bundle, {"curve": plot})
        return registry.log_run(record), bundle.digest

    return log


def register(registry, run_id, digest, key):
    return registry.register("toy", run_id, {"idempotency_key": key, "digest": digest, "gate": "passed"})


def test_a_run_is_found_by_its_key_once_it_is_whole(registry, logged, tmp_path):
    assert registry.find_run("toy", "k") is None
    run_id, digest = logged("k")
    assert registry.find_run("toy", "k") == run_id
    assert registry.download(run_id, digest, tmp_path / "down").digest == digest
    assert registry.run_tags(run_id)["digest"] == digest


def test_a_run_that_was_cut_off_is_not_reused(registry, logged):
    run_id, _ = logged("k")
    registry._client.set_terminated(run_id, "FAILED")
    assert registry.find_run("toy", "k") is None


def test_a_key_is_registered_once(registry, logged):
    run_id, digest = logged("k")
    first = register(registry, run_id, digest, "k")
    assert register(registry, run_id, digest, "k") == first
    other = register(registry, *logged("l"), "l")
    assert [each.version for each in registry.versions("toy")] == [other.version, first.version]
    assert first.passed
    assert first.tags["run_id"] == run_id


def test_a_bundle_that_changed_is_not_registered(registry, logged, tmp_path):
    run_id, digest = logged("k")
    weights = next((tmp_path / "artifacts").rglob("weights.json"))
    weights.write_text("other")
    with pytest.raises(BundleRefused, match="digest"):
        register(registry, run_id, digest, "k")
    assert registry.versions("toy") == []
    assert registry.unregistered_runs("toy") == [run_id]


def test_versions_are_found_by_number_and_alias(registry, logged):
    version = register(registry, *logged("k"), "k")
    registry.set_alias("toy", "champion", version.version)
    assert registry.version("toy", "champion").aliases == ("champion",)
    assert registry.version("toy", version.version).digest == version.digest
    assert registry.find("toy", "previous") is None
    registry.delete_alias("toy", "champion")
    with pytest.raises(UnknownVersion, match="orrery models toy"):
        registry.version("toy", "champion")


def test_a_judgement_written_twice_is_written_once(registry, logged):
    run_id, _ = logged("k")
    for _ in range(2):
        registry.log_judgement(run_id, {"test_ap": 0.7}, {"gate": "passed"}, {"verdict.json": "{}"})
    assert len(registry._client.get_metric_history(run_id, "test_ap")) == 1
    assert registry.run_tags(run_id)["gate"] == "passed"


def test_no_model_yet_is_not_an_error(registry):
    assert registry.versions("nothing") == []
    assert registry.unregistered_runs("nothing") == []


def test_a_dead_server_is_said_at_once(settings):
    dead = settings.model_copy(update={"mlflow": MlflowSettings(port=9, timeout_seconds=1)})
    registry = Registry(dead)
    with pytest.raises(RegistryUnavailable, match="orrery up"):
        registry.versions("toy")  # the first call imports half of MLflow
    started = time.monotonic()
    with pytest.raises(RegistryUnavailable):
        registry.find_run("toy", "k")
    assert time.monotonic() - started < 2
