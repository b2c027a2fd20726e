"""The first start of a platform: what is missing is made, what is there is left alone."""

import json

import pytest

import usecases
from cli.bootstrap import bootstrap
from cli.keys import client_key, ensure_client_key
from cli.main import main
from cli.story import DemoFailed, Story
from orrery.settings import TrainingSettings


@pytest.fixture
def steps(settings, monkeypatch):
    """What bootstrap did, with the parts that need a platform stood in for."""
    done, champions = [], {}

    def release(self):
        done.append(f"release {self.use_case}")
        champions[self.use_case] = {"version": "1"}

    monkeypatch.setattr("cli.bootstrap._declare", lambda configured: done.append("views"))
    monkeypatch.setattr("cli.bootstrap.deploy_flows", lambda configured: done.append("deployments"))
    monkeypatch.setattr("cli.bootstrap.alias", lambda configured, name, alias: champions.get(name))
    monkeypatch.setattr("cli.bootstrap._promote_again", lambda configured, name: done.append(f"again {name}"))
    monkeypatch.setattr(Story, "release", release)
    monkeypatch.setattr(Story, "materialize", lambda self: done.append(f"store {self.use_case}"))
    return done


def test_a_new_platform_gets_a_key_views_deployments_and_a_champion_of_each(steps, settings, capfd):
    main_succeeds("bootstrap", "--json")
    each = [step for name in usecases.names() for step in (f"release {name}", f"store {name}")]
    assert steps == ["views", "deployments", *each]
    assert json.loads(capfd.readouterr().out) == [{"use case": name, "champion": "1"} for name in usecases.names()]
    assert client_key(settings)


def test_again_it_trains_nothing_and_keeps_the_key(steps, settings):
    ensure_client_key(settings)
    key = client_key(settings)
    bootstrap()
    steps.clear()
    bootstrap()
    each = [step for name in usecases.names() for step in (f"again {name}", f"store {name}")]
    assert steps == ["views", "deployments", *each]
    assert client_key(settings) == key


def test_only_those_that_are_wanted_get_a_first_release(steps, settings, monkeypatch):
    wanted = settings.model_copy(update={"training": TrainingSettings(first="house_prices, fraud")})
    monkeypatch.setattr("cli.bootstrap.settings", lambda: wanted)
    bootstrap()
    assert [step for step in steps if step.startswith("release")] == ["release house_prices", "release fraud"]


def test_a_misspelt_use_case_is_refused_before_any_training(steps, settings, monkeypatch):
    wanted = settings.model_copy(update={"training": TrainingSettings(first="frauds")})
    monkeypatch.setattr("cli.bootstrap.settings", lambda: wanted)
    with pytest.raises(usecases.UnknownUseCase, match="frauds"):
        bootstrap()
    assert not [step for step in steps if step.startswith("release")]


def test_the_key_is_not_printed(steps, settings, capfd):
    bootstrap()
    said = capfd.readouterr()
    assert client_key(settings) not in said.out + said.err


def test_a_refused_first_model_ends_it_with_the_reasons(steps, monkeypatch, capfd):
    def refused(self):
        raise DemoFailed("the gate refused the model: ap: too low")

    monkeypatch.setattr(Story, "release", refused)
    with pytest.raises(SystemExit) as ended:
        main(["bootstrap"])
    assert ended.value.code == 1
    assert "ap: too low" in capfd.readouterr().err


def test_the_views_of_every_use_case_are_declared(settings):
    from cli.bootstrap import _declare
    from orrery.adapters.online_store import open_online_store

    _declare(settings)
    store = open_online_store(settings)
    for name in usecases.names():
        serving = usecases.serving(name)
        assert {found.status for found in store.read(list(serving.keys(serving.example))).values()} <= {"missing"}
    store.close()


def main_succeeds(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
