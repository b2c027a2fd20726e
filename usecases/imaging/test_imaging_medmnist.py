"""PneumoniaMNIST is read whole or not at all, and what is trained on is not judged on."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from orrery.usecase import SourceRequest, silent
from usecases.imaging import medmnist
from usecases.imaging.film_table import ACQUIRED, DataRefused
from usecases.imaging.source import SOURCES, describe, validate

NAME = "pneumoniamnist"


@pytest.fixture(scope="module")
def published() -> Path:
    path = Path(__file__).parents[3] / "shared" / "data" / "imaging" / "pneumoniamnist.npz"
    if not path.is_file():
        pytest.skip("no PneumoniaMNIST beside the checkout")
    return path


def read(path: Path | None, *, sample: bool = False, **columns: str):
    return SOURCES[NAME](SourceRequest(NAME, path, columns, sample), silent)


def refused(path: Path | None, **columns: str) -> str:
    with pytest.raises(DataRefused) as caught:
        read(path, **columns)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Server(BaseHTTPRequestHandler):
    body = b""

    def do_GET(self) -> None:
        self.send_response(200 if self.body else 404)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def elsewhere(monkeypatch) -> Iterator[type[Server]]:
    """A server that stands in for the publisher."""
    server = HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setattr(medmnist, "URL", f"http://127.0.0.1:{server.server_port}/pneumoniamnist.npz")
    yield Server
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_published_films_by_the_official_split(published):
    films = validate(read(published))
    assert films["part"].value_counts().to_dict() == {"train": 4_698, "test": 624, "validation": 524}
    assert describe(films) == {"films": 5_846, "patients": 5_846, "positives": 4_263}
    ends = films.groupby("part")["taken_at"].agg(["min", "max"])
    assert ends.at["train", "max"] < ends.at["validation", "min"]
    assert ends.at["validation", "max"] < ends.at["test", "min"]
    assert (films["mask"] == b"").all()
    assert films[list(ACQUIRED)].isna().all(axis=None), "pictures say nothing of how they were acquired"
    learned = set(films.loc[films["part"] == "train", "picture"])
    assert not learned & set(films.loc[films["part"] != "train", "picture"])


def test_a_sample_has_every_part(published):
    films = validate(read(published, sample=True))
    assert set(films["part"]) == {"train", "validation", "test"}
    assert 400 < len(films) < 600


def test_eight_pictures_of_validation_are_not_trained_on(published):
    with np.load(published, allow_pickle=False) as file:
        train, held_out = ({image.tobytes() for image in file[f"{part}_images"]} for part in ("train", "val"))
    assert len(train & held_out) == 8


@pytest.mark.parametrize("cut", [0, 1_000, medmnist.SIZE - 1])
def test_a_cut_copy_is_refused(published, tmp_path, cut):
    path = tmp_path / "pneumoniamnist.npz"
    path.write_bytes(published.read_bytes()[:cut])
    assert f"is not the published pneumoniamnist.npz (4,170,669 bytes, MD5 {medmnist.MD5})" in refused(path)


def test_a_changed_copy_is_refused(published, tmp_path):
    data = bytearray(published.read_bytes())
    data[2_000_000] ^= 1
    (tmp_path / "pneumoniamnist.npz").write_bytes(data)
    assert "fetch it again" in refused(tmp_path / "pneumoniamnist.npz")


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "pneumoniamnist.npz"
    np.savez(path, train_images=np.zeros((4, 28, 28), np.uint8))
    assert "is not the published" in refused(path)


def test_nothing_is_fetched_unasked(tmp_path, elsewhere):
    assert "CC BY 4.0" in refused(None)
    assert "--column download=yes" in refused(tmp_path / "pneumoniamnist.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("columns", [{"download": "no"}, {"label": "target"}])
def test_other_options_are_refused(tmp_path, columns):
    assert "knows one option" in refused(tmp_path / "pneumoniamnist.npz", **columns)


def test_the_file_is_fetched_when_asked_for(published, tmp_path, elsewhere, monkeypatch):
    monkeypatch.setattr(elsewhere, "body", published.read_bytes())
    path = tmp_path / "pneumoniamnist.npz"
    assert len(read(path, sample=True, download="yes")) > 400
    assert path.read_bytes() == published.read_bytes()
    monkeypatch.setattr(elsewhere, "body", b"")  # it is not fetched twice
    assert len(read(path, sample=True, download="yes")) > 400


@pytest.mark.parametrize("size", [0, 10, medmnist.SIZE, medmnist.SIZE + 1])
def test_another_file_is_not_kept(tmp_path, elsewhere, monkeypatch, size):
    monkeypatch.setattr(elsewhere, "body", bytes(size))
    message = refused(tmp_path / "pneumoniamnist.npz", download="yes")
    assert ("cannot be fetched" if size == 0 else "sent another file than was published") in message
    assert not list(tmp_path.iterdir())
