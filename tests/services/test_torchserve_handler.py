"""The one handler of TorchServe, called as its worker calls it: with the worker's own context, without the server."""

import logging
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch_servers import INPUTS, ROOT, spots_bundle

import usecases
from orrery.adapters.array_bytes import outputs_from_bytes, rows_to_bytes
from orrery.adapters.model_server import GoldenMismatch
from orrery.bundle import BundleRefused
from services.torchserve import handler

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it leaves a file open
    from ts.context import Context, RequestProcessor


@pytest.fixture(autouse=True)
def spots(monkeypatch):
    """One more use case, as if it lay among the others."""
    toys = ROOT / "tests" / "toy"
    monkeypatch.setattr(usecases, "_HERE", toys)
    monkeypatch.setattr(usecases, "__path__", [*usecases.__path__, str(toys)])
    yield
    usecases.serving.cache_clear()


@pytest.fixture
def loaded(tmp_path):
    return handler.load(spots_bundle(tmp_path / "bundle", 2.0).folder)


def context(requests=0, folder=""):
    made = Context("spots", folder, {}, 1, None, "0.12.0")
    made.request_processor = [RequestProcessor({}) for _ in range(requests)]
    return made


def ask(loaded, *bodies):
    """Statuses, headers and contents of a batch's answers."""
    asked = context(len(bodies))
    contents = handler.answers(loaded, [{"body": bytearray(body)} for body in bodies], asked)
    statuses, headers = zip(
        *((asked.get_response_status(n)[0], asked.get_response_headers(n)) for n in range(len(bodies))), strict=True
    )
    return list(statuses), headers, contents


def rows(count, seed=7):
    return np.random.default_rng(seed).random((count, INPUTS), np.float32)


def test_requests_that_come_together_are_scored_at_once_and_each_gets_its_own(loaded):
    sizes = (1, 3, 2)
    parts = [rows(size, seed=size) for size in sizes]
    statuses, headers, contents = ask(loaded, *map(rows_to_bytes, parts))
    assert statuses == [200, 200, 200]
    for part, header, content in zip(parts, headers, contents, strict=True):
        assert header == {"content-type": "application/octet-stream", "x-device": loaded.model.device}
        outputs, alone = outputs_from_bytes(content, len(part)), loaded.serving.score(loaded.model, part)
        np.testing.assert_allclose(outputs["score"], alone["score"], atol=1e-6)
        np.testing.assert_array_equal(outputs["mask"], alone["mask"])
        assert outputs["mask"].dtype == np.uint8
        assert set(outputs["together"]) == {sum(sizes)}


def test_a_bad_body_is_refused_and_harms_nobody_beside_it(loaded):
    good = rows_to_bytes(rows(2))
    statuses, _, contents = ask(loaded, b"rubbish", good, b"", rows_to_bytes(rows(1)[:, :3]))
    assert statuses == [400, 200, 400, 400]
    assert len(outputs_from_bytes(contents[1], 2)["score"]) == 2
    assert contents[0] == b"the body is no .npy file"
    assert ask(loaded, b"rubbish")[0] == [400]


def test_a_request_without_a_body_is_refused(loaded):
    asked = context(1)
    assert b"no .npy" in handler.answers(loaded, [{}], asked)[0]
    assert asked.get_response_status(0)[0] == 400


def test_it_is_loaded_from_an_archive_and_bounded_in_its_threads(tmp_path, monkeypatch):
    spots_bundle(tmp_path / "bundle")
    threads, level = torch.get_num_threads(), logging.getLogger().level
    monkeypatch.setattr(handler, "_loaded", [])
    try:
        assert handler.handle(None, context(folder=str(tmp_path))) == []
        assert torch.get_num_threads() == 1
        assert not logging.getLogger("ts").isEnabledFor(logging.INFO), "the worker has a line for every request"
    finally:
        torch.set_num_threads(threads)
        logging.getLogger().setLevel(level)
    asked = context(1)
    (content,) = handler.handle([{"body": rows_to_bytes(rows(1))}], asked)
    assert outputs_from_bytes(content, 1)


def test_what_is_not_the_bundle_that_was_registered_is_not_loaded(tmp_path):
    bundle = spots_bundle(tmp_path / "changed")
    (bundle.folder / "weights.npy").write_bytes(b"other")
    with pytest.raises(BundleRefused, match="digest"):
        handler.load(bundle.folder)
    with pytest.raises(GoldenMismatch):
        handler.load(spots_bundle(tmp_path / "off", 1.0, torch_slope=1.1).folder)


def test_nothing_of_a_request_is_logged(loaded, caplog):
    caplog.set_level(logging.DEBUG)
    ask(loaded, b"a name in a bad body", rows_to_bytes(rows(1)))
    assert not caplog.records


def test_code_in_a_bundle_is_refused(tmp_path):
    folder = tmp_path / "coded"
    bundle = spots_bundle(folder)
    (folder / "network.py").write_text("raise SystemExit")
    with pytest.raises(BundleRefused):
        handler.load(bundle.folder)


IMPORTS = """
import importlib.metadata, re, sys
from pathlib import Path

locked = set(re.findall(r"^([A-Za-z0-9_.-]+)==", Path("requirements/torchserve-cpu.txt").read_text(), re.M))
known = {name.lower().replace("_", "-") for name in locked} | {"orrery"}
class OnlyLocked:
    homes = importlib.metadata.packages_distributions()
    def find_spec(self, name, path=None, target=None):
        owners = self.homes.get(name.partition(".")[0])
        if owners and not any(each.lower().replace("_", "-") in known for each in owners):
            raise ModuleNotFoundError(f"{name} is not in the lock of TorchServe", name=name)
sys.meta_path.insert(0, OnlyLocked())
import services.torchserve.handler, services.torchserve.__main__
import importlib, usecases
for name in usecases.names():
    if usecases.serving(name).runtime == "model_server":
        importlib.import_module(f"usecases.{name}.network")
"""


@pytest.mark.slow
def test_it_needs_no_more_than_its_lock():
    asked = [sys.executable, "-c", IMPORTS]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_its_settings_are_files_of_this_repository():
    from services.torchserve.__main__ import CONFIGURATION

    configured = (CONFIGURATION / "config.properties").read_text()
    for line in ("allowed_urls=none:.*", "enable_envvars_config=false", "job_queue_size=64", "metrics_mode=prometheus"):
        assert line in configured.splitlines()
    assert (CONFIGURATION / "log4j2.xml").is_file()
