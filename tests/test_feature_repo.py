"""The stock `feast` command sees what the platform sees."""

import subprocess
import sys
from pathlib import Path

import pytest

import usecases
from orrery.adapters.feature_store import FeatureStore, repo_config, repo_variables
from orrery.settings import child_environment
from usecases.fraud.features import FEATURES

REPO = Path(__file__).parent.parent / "feature_repo"


def test_the_yaml_says_what_the_settings_say(settings, monkeypatch):
    from feast.repo_config import load_repo_config

    for name, value in repo_variables(settings).items():
        monkeypatch.setenv(name, value)
    ours, theirs = repo_config(settings), load_repo_config(REPO, REPO / "feature_store.yaml")
    for part in ("project", "provider", "registry", "offline_store", "online_store", "materialization_config"):
        assert getattr(ours, part) == getattr(theirs, part), part
    assert ours.entity_key_serialization_version == theirs.entity_key_serialization_version == 3


def test_every_use_case_can_be_applied_and_its_service_has_the_models_inputs(settings):
    declared = usecases.feature_views("fraud")
    store = FeatureStore(settings)
    store.apply(declared)
    service = store._feast.get_feature_service("fraud")
    names = [feature.name for projection in service.feature_view_projections for feature in projection.features]
    assert names == list(FEATURES)
    assert {each.name for each in declared} == {
        "customer", "terminal", "transaction", "customer_history", "terminal_history", "transaction_features", "fraud"
    }  # fmt: skip


@pytest.mark.slow
def test_the_stock_command_applies_the_definitions(settings):
    environment = child_environment(settings, {**repo_variables(settings), "PYTHONPATH": str(REPO.parent)})
    settings.feature_folder.mkdir(parents=True)
    command = [sys.executable, "-m", "feast.cli.cli", "-c", str(REPO), "apply"]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert "customer_history" in done.stdout
    sources = FeatureStore(settings)._feast.get_feature_view("customer_history").batch_source.path
    assert sources == str(settings.feature_folder / "offline" / "customer_history.parquet")


def test_a_use_case_without_views_has_none(monkeypatch, tmp_path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "serving.py").touch()
    monkeypatch.setattr(usecases, "_HERE", tmp_path)
    assert usecases.feature_views("plain") == []
    with pytest.raises(usecases.UnknownUseCase, match="there are: plain"):
        usecases.feature_views("nobody")


def test_views_that_cannot_be_imported_are_named(monkeypatch, tmp_path):
    (tmp_path / "broken").mkdir()
    for name in ("serving.py", "feature_views.py"):
        (tmp_path / "broken" / name).touch()
    monkeypatch.setattr(usecases, "_HERE", tmp_path)
    with pytest.raises(usecases.BrokenUseCase, match=r"usecases/broken/feature_views\.py"):
        usecases.feature_views("broken")
