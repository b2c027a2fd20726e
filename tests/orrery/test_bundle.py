"""A bundle is what its manifest says, or it is refused."""

from datetime import UTC, datetime

import pytest

from orrery.bundle import MANIFEST, Bundle, BundleRefused, Feature, Golden

MOMENT = datetime(2024, 1, 1, tzinfo=UTC)
ABOUT = {
    "use_case": "any", "created_at": MOMENT, "trained_from": MOMENT, "trained_to": MOMENT, "as_of": MOMENT, "rows": 1,
    "data_version": "v", "git_commit": "c", "lock_hash": "l", "features": [Feature(name="a")], "learned": {},
    "reference": {}, "golden": Golden(inputs=[[1.0]], outputs={"score": [0.5]}),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model.txt").write_text("tree")
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "curve.png").write_bytes(b"png")
    return tmp_path


def test_what_was_written_opens_again(folder):
    written = Bundle.write(folder, ABOUT)
    assert Bundle.open(folder) == written
    assert set(written.manifest.files) == {"model.txt", "plots/curve.png"}


def test_the_digest_names_the_content(folder):
    first = Bundle.write(folder, ABOUT).digest
    assert Bundle.write(folder, ABOUT).digest == first
    (folder / "model.txt").write_text("another tree")
    assert Bundle.write(folder, ABOUT).digest != first


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.txt").write_text("tref"), "digest differs"),
        (lambda folder: (folder / "model.txt").unlink(), "files differ"),
        (lambda folder: (folder / "more.txt").write_text("x"), "files differ"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "not a manifest"),
        (lambda folder: (folder / MANIFEST).write_text('{"format": 1}'), "not a manifest"),
        (lambda folder: (folder / MANIFEST).unlink(), "not a model bundle"),
    ],
)
def test_damage_is_refused(folder, damage, message):
    Bundle.write(folder, ABOUT)
    damage(folder)
    with pytest.raises(BundleRefused, match=message):
        Bundle.open(folder)


@pytest.mark.parametrize("name", ["model.pkl", "model.pkl.gz", "model.joblib", "model.pt", "setup.py", "plain"])
def test_only_formats_without_code_are_let_in(folder, name):
    (folder / name).write_bytes(b"cos\nsystem\n")
    with pytest.raises(BundleRefused, match="may be in a bundle"):
        Bundle.write(folder, ABOUT)


def test_a_link_out_of_the_folder_is_refused(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "secret.txt"
    outside.write_text("secret")
    (folder / "link.txt").symlink_to(outside)
    with pytest.raises(BundleRefused, match="link"):
        Bundle.write(folder, ABOUT)


def test_a_path_out_of_the_folder_is_refused(folder):
    Bundle.write(folder, ABOUT)
    text = (folder / MANIFEST).read_text().replace('"model.txt"', '"../model.txt"')
    (folder / MANIFEST).write_text(text)
    with pytest.raises(BundleRefused, match="files differ"):
        Bundle.open(folder)
