"""A running TorchServe: versions side by side, what it refuses, and what becomes of it when it is killed."""

import asyncio
import signal
import socket
import time
import zipfile

import httpx
import numpy as np
import psutil
import pytest
from mlflow import MlflowClient
from torch_servers import INPUTS, TorchServer, project_with_spots, serving, spots_bundle, torchserve_settings

from orrery import releasing
from orrery.adapters.array_bytes import outputs_from_bytes, rows_to_bytes
from orrery.adapters.audit_log import AuditLog
from orrery.adapters.model_server import load_model
from orrery.adapters.registry import CHAMPION, Record, Registry
from orrery.adapters.torch_archive import archive_path, served_as, write_archive
from orrery.adapters.torchserve import (
    Breaker,
    ModelServerUnavailable,
    TorchServe,
    VersionRefused,
    VersionStore,
    is_configured,
)
from orrery.lifecycle import Release
from orrery.model_serving import ModelServing, ServingParityBroken, prove
from orrery.settings import GatewaySettings, Settings

ROWS = np.random.default_rng(7).random((3, INPUTS), np.float32)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("torchserve")


@pytest.fixture(scope="module")
def bundles(place):
    """Three that answer differently."""
    return [spots_bundle(place / f"bundle-{slope}", slope) for slope in (1.0, 2.0, 3.0)]


@pytest.fixture(scope="module")
def server(place, bundles):
    """A TorchServe that found the first two versions in its store when it started."""
    settings = torchserve_settings(place / "home", batch=8, batch_delay_ms=2)
    for number, bundle in enumerate(bundles[:2], start=1):
        write_archive(bundle, str(number), settings)
    server = TorchServer(project_with_spots(place / "project"), settings).start().ready()
    yield server
    assert not server.stop(), "a process of TorchServe survives it"


@pytest.fixture
def store(server):
    with VersionStore(server.settings) as store:
        for seconds in range(480):
            if list(store.versions("spots").values()).count(True) >= 2:
                break
            time.sleep(0.25 if seconds else 0)
        yield store


def scored(settings, version, digest, rows=ROWS, seconds=10.0):
    """What the gateway's client gets."""

    async def ask():
        client = TorchServe(settings)
        try:
            return await client.score("spots", version, digest, rows, seconds)
        finally:
            await client.close()

    return asyncio.run(ask())


@pytest.mark.slow
def test_two_versions_side_by_side_answer_as_their_twins(server, store, bundles):
    assert store.versions("spots") == {served_as(str(n), b.digest): True for n, b in enumerate(bundles[:2], start=1)}
    for number, bundle in enumerate(bundles[:2], start=1):
        scores = scored(server.settings, str(number), bundle.digest)
        twin = serving.score(load_model(bundle.folder), ROWS)
        np.testing.assert_allclose(scores.outputs["score"], twin["score"], atol=1e-6)
        np.testing.assert_array_equal(scores.outputs["mask"], twin["mask"])
        assert scores.device in {"cpu", "cuda"}


@pytest.mark.slow
def test_a_version_that_is_not_there_or_is_another_bundle_is_unavailable(server, store, bundles):
    for version, digest in (("9", bundles[0].digest), ("1", bundles[1].digest)):
        with pytest.raises(ModelServerUnavailable, match="404"):
            scored(server.settings, version, digest)
    assert store.versions("nothing") == {}


@pytest.mark.slow
def test_a_bad_body_is_an_error_of_its_request_only(server, store, bundles):
    path = f"{server.settings.torchserve_url}/predictions/spots/{served_as('1', bundles[0].digest)}"

    async def ask():
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            bodies = [b"rubbish", *[rows_to_bytes(ROWS)] * 7]
            return await asyncio.gather(*(client.post(path, content=body) for body in bodies))

    bad, *good = asyncio.run(ask())
    assert (bad.status_code, bad.text) == (400, "the body is no .npy file")
    outputs = [outputs_from_bytes(each.content, 3) for each in good]
    assert all((each["score"] == outputs[0]["score"]).all() for each in outputs)
    assert max(int(each["together"][0]) for each in outputs) > 3, "requests that wait are scored together"


@pytest.mark.slow
def test_what_is_too_large_is_refused_without_harm(server, store, bundles):
    path = f"{server.settings.torchserve_url}/predictions/spots/{served_as('1', bundles[0].digest)}"
    try:
        status = httpx.post(path, content=b"\0" * 34_000_000, trust_env=False, timeout=30).status_code
    except httpx.HTTPError:  # it hangs up before all is sent
        status = httpx.codes.REQUEST_ENTITY_TOO_LARGE
    assert status == httpx.codes.REQUEST_ENTITY_TOO_LARGE
    assert len(scored(server.settings, "1", bundles[0].digest).outputs["score"]) == 3


@pytest.mark.slow
def test_only_archives_of_the_store_can_be_loaded(server, store):
    where = f"{server.settings.torchserve.management_address}/models"
    for url in ("http://127.0.0.1:9/x.mar", "file:///etc/passwd", "../x.mar", "s3://x/y.mar"):
        answer = httpx.post(where, params={"url": url}, trust_env=False)
        assert answer.is_client_error, (url, answer.text)


@pytest.mark.slow
def test_a_version_comes_is_proven_and_goes(server, store, bundles):
    settings, third = server.settings, bundles[2]
    parity = prove(third, "3", serving, settings)
    assert (parity.rows, parity.least_dice) == (3, 1.0)
    assert parity.largest_difference <= 1e-6
    assert prove(third, "3", serving, settings).rows == 3
    kept = [("3", third.digest), ("2", bundles[1].digest)]
    assert store.keep("spots", kept) == [served_as("1", bundles[0].digest)]
    assert store.versions("spots") == {served_as(*each): True for each in kept}
    assert sorted(settings.archives_folder.iterdir()) == sorted(
        archive_path(settings, "spots", served_as(*each)) for each in kept
    )
    assert store.keep("spots", kept) == []


@pytest.mark.slow
def test_a_version_whose_rows_differ_from_its_twins_is_refused(server, store, place):
    # its golden rows are zeros, of which both make one half
    broken = spots_bundle(place / "broken", 1.0, torch_slope=1.01, golden=0.0)
    with pytest.raises(ServingParityBroken, match=r"'score': .* off its twin by 0.00\d+; not promoted"):
        prove(broken, "4", serving, server.settings, ROWS / 10)
    assert served_as("4", broken.digest) not in store.versions("spots")


@pytest.mark.slow
def test_a_version_that_cannot_be_loaded_is_refused_and_not_kept(server, store, place):
    bad = spots_bundle(place / "bad", 1.0, torch_slope=1.01)
    before = store.versions("spots")
    with pytest.raises(VersionRefused, match="spots 5; its log says why"):
        prove(bad, "5", serving, server.settings)
    assert store.versions("spots") == before
    assert not archive_path(server.settings, "spots", served_as("5", bad.digest)).exists()
    assert "GoldenMismatch" in server.log()


@pytest.fixture
def releases(server, bundles, catalogue, tmp_path):
    """The three versions as passed releases, in a catalogue beside the server, and settings that know both."""
    MlflowClient(catalogue.mlflow_url).create_experiment("spots", artifact_location=(tmp_path / "spots").as_uri())
    where = server.settings.torchserve.model_copy(update={"store": str(server.settings.archives_folder)})
    settings = catalogue.model_copy(update={"torchserve": where, "gateway": GatewaySettings(port=9)})
    registry, made = Registry(settings), []
    for bundle in bundles:
        key = bundle.digest
        run_id = registry.log_run(Record("spots", key, {}, {}, {"idempotency_key": key}, bundle))
        tags = {"idempotency_key": key, "digest": bundle.digest, "gate": "passed"}
        made.append(Release("spots", registry.register("spots", run_id, tags).version, bundle.digest, run_id))
    return settings, made


@pytest.mark.slow
def test_a_release_is_proven_before_the_alias_moves_and_the_audit_log_says_so(store, releases):
    settings, (_, second, third) = releases
    deployed = releasing.deploy(second, serving, settings)
    assert deployed.promotion.facts["parity_rows"] == 3
    releasing.deploy(third, serving, settings)
    assert releasing.rollback("spots", settings, serving).promotion.version == second.version
    assert releasing.promote("spots", third.version, settings, serving).promotion.previous == second.version
    said = [(each["action"], each["details"]["parity_least_dice"]) for each in AuditLog(settings).records()]
    assert said == [("promote", 1.0), ("promote", 1.0), ("rollback", 1.0), ("promote", 1.0)]
    assert ModelServing(settings, serving).settle("spots") == []
    assert set(store.versions("spots")) == {served_as(each.version, each.digest) for each in (second, third)}


@pytest.mark.slow
def test_without_the_server_it_asks_for_no_alias_moves(releases):
    settings, (first, *_) = releases
    where = settings.torchserve.model_copy(update={"management_url": "http://127.0.0.1:9"})
    with pytest.raises(ModelServerUnavailable, match="orrery status"):
        releasing.deploy(first, serving, settings.model_copy(update={"torchserve": where}))
    assert Registry(settings).find("spots", CHAMPION) is None
    assert not archive_path(settings, "spots", served_as(first.version, first.digest)).exists()

    twin_only = settings.model_copy(update={"gateway": GatewaySettings(port=9, model_server="in_process")})
    assert releasing.deploy(first, serving, twin_only).promotion.facts == {}


@pytest.mark.slow
def test_its_own_metrics_count_the_requests_of_each_version(server, store, bundles):
    def count():
        text = httpx.get(server.settings.torchserve_metrics_url, trust_env=False).text
        wanted = ("ts_inference_requests_total{", f'model_version="{served_as("2", bundles[1].digest)}"')
        return sum(float(line.split()[-1]) for line in text.splitlines() if all(each in line for each in wanted))

    before = count()
    scored(server.settings, "2", bundles[1].digest)
    assert count() == before + 1


@pytest.mark.slow
def test_killed_it_is_unavailable_at_once_and_comes_back_with_its_versions(server, store, bundles):
    known, workers = store.versions("spots"), server.children()
    assert server.stop(signal.SIGKILL) == []
    assert not any(process.is_running() for process in workers)
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(ModelServerUnavailable):
            scored(server.settings, "2", bundles[1].digest)
    with pytest.raises(ModelServerUnavailable, match="orrery status"):
        store.versions("spots")
    assert time.monotonic() - began < 2

    server.start().ready()
    until = time.monotonic() + 120
    while (found := store.versions("spots")) != known and time.monotonic() < until:
        time.sleep(0.2)
    assert found == known
    assert scored(server.settings, "2", bundles[1].digest).outputs["score"].shape == (3,)


@pytest.mark.slow
def test_it_listens_on_the_loopback_only(server, store):
    listening = [each for each in psutil.Process(server.process.pid).net_connections("tcp") if each.status == "LISTEN"]
    assert {each.laddr.ip.removeprefix("::ffff:") for each in listening} == {"127.0.0.1"}


# --- without a server -------------------------------------------------------------------------


def test_an_archive_is_the_bundle_and_two_notes_and_always_the_same_bytes(tmp_path, settings):
    bundle = spots_bundle(tmp_path / "bundle")
    path = write_archive(bundle, "7", settings)
    first = path.read_bytes()
    (bundle.folder / "spots.onnx").touch()
    assert write_archive(bundle, "7", settings).read_bytes() == first
    assert path.name == f"spots-7-{bundle.digest[:12]}.mar"
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    with zipfile.ZipFile(path) as archive:
        notes, bundled = {"MAR-INF/MANIFEST.json", "model-config.yaml"}, {"bundle.json", "spots.onnx", "weights.npy"}
        assert set(archive.namelist()) == notes | {f"bundle/{name}" for name in bundled}


def test_it_is_configured_where_it_is_wanted_and_elsewhere_or_installed(settings):
    def told(**changed):
        return is_configured(Settings.model_validate({**settings.model_dump(), **changed}))

    assert told()
    assert not told(torchserve={"enabled": "never"})
    assert told(torchserve={"enabled": "never", "url": "http://torchserve:7080"})
    assert not told(gateway={"model_server": "in_process"}, torchserve={"url": "http://torchserve:7080"})


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_three_failures_in_a_row_open_the_breaker_and_one_call_that_works_closes_it():
    clock = Clock()
    breaker = Breaker(clock)
    for worked in (True, False, False, True, False, False):
        breaker.saw(worked)
        assert breaker.admits()
    assert not breaker.is_open
    breaker.saw(False)
    assert not breaker.admits()
    assert breaker.is_open
    clock.now += 2
    assert breaker.admits()
    assert not breaker.admits(), "one call looks, the others wait for what it finds"
    breaker.saw(False)
    clock.now += 1.9
    assert not breaker.admits()
    clock.now += 0.2
    assert breaker.admits()
    assert breaker.is_open, "until the call that looks has found it well"
    breaker.saw(True)
    assert not breaker.is_open
    assert all(breaker.admits() for _ in range(5))


def test_half_of_twenty_calls_open_the_breaker_but_not_when_they_are_old():
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(9):
        breaker.saw(False)
        breaker.saw(True)
    clock.now += 11
    for _ in range(9):
        breaker.saw(True)
        breaker.saw(False)
    assert breaker.admits(), "eighteen in ten seconds are too few to say"
    breaker.saw(True)
    breaker.saw(False)
    assert not breaker.admits()


def test_a_server_that_hangs_takes_no_more_than_its_share_and_then_nothing(settings):
    async def ask_five_times(url):
        client = TorchServe(Settings.model_validate({**settings.model_dump(), "torchserve": {"url": url}}))
        took = []
        for _ in range(5):
            began = time.monotonic()
            with pytest.raises(ModelServerUnavailable):
                await client.score("spots", "1", "d" * 64, ROWS, 0.1)
            took.append(time.monotonic() - began)
        await client.close()
        return took

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        took = asyncio.run(ask_five_times(f"http://127.0.0.1:{silent.getsockname()[1]}"))
    assert all(each > 0.09 for each in took[:3])
    assert sum(took[3:]) < 0.09


def test_without_time_left_it_is_not_asked(settings):
    with pytest.raises(ModelServerUnavailable, match="no time is left"):
        scored(settings, "1", "d" * 64, seconds=-0.1)
