"""What `init` makes and refuses."""

import base64
import hmac
import json
import re
import stat

import pytest

from orrery.installation import (
    OtherVersion,
    SecretsLost,
    TooSmall,
    Volumes,
    check_room,
    main,
    major,
    prepare,
    renew,
    roles,
    upgrade,
    verifier,
)

HERE = {"orrery": "0.2.0", "postgres": "17"}


@pytest.fixture
def volumes(tmp_path):
    for name in ("alertmanager", "gateway", "grafana", "mlflow", "monitor", "prefect", "worker"):
        (tmp_path / "secrets" / name).mkdir(parents=True)
    for name in ("postgres-exporter", "redis-exporter"):
        (tmp_path / "secrets" / name).mkdir(parents=True)
    for name in ("public", "postgres"):
        (tmp_path / name).mkdir()
    return Volumes(tmp_path / "secrets", tmp_path / "public", tmp_path / "postgres")


def contents(volumes):
    return {path: path.read_text() for path in volumes.secret_files()}


def has_data(volumes):
    (volumes.postgres / "initialized").touch()


def test_a_first_start_makes_every_secret_for_its_owner_only(volumes):
    assert prepare(volumes, HERE) == "secrets made for Orrery 0.2.0"
    for path, text in contents(volumes).items():
        # its image runs as a user of its own, and nobody else mounts its volume
        assert stat.S_IMODE(path.stat().st_mode) == (0o444 if path.parent.name == "alertmanager" else 0o400)
        assert len(text) >= 32
    assert json.loads(volumes.note.read_text()) == HERE


def test_a_service_holds_the_passwords_of_its_own_databases_only(volumes):
    prepare(volumes, HERE)
    held = {path.parent.name: path.read_text().split() for path in volumes.secrets.glob("*/pgpass")}
    names = {service: [line.split(":")[2] for line in lines] for service, lines in held.items()}
    assert names == {
        "gateway": ["orrery"], "mlflow": ["mlflow"], "monitor": ["orrery"], "prefect": ["prefect"],
        "worker": ["feast", "orrery"],
    }  # fmt: skip


def test_alertmanager_and_the_monitor_share_one_token(volumes):
    prepare(volumes, HERE)
    found = {path.parent.name: path.read_text() for path in volumes.secrets.glob("*/alerts")}
    assert set(found) == {"alertmanager", "monitor"}
    assert found["alertmanager"] == found["monitor"]


def test_what_is_public_holds_no_secret(volumes):
    prepare(volumes, HERE)
    public = "".join(path.read_text() for path in volumes.public.iterdir())
    long = [word for text in contents(volumes).values() for word in re.findall(r"[\w-]{24,}", text)]
    assert len(long) == 13
    assert not [word for word in long if word in public]


def test_again_it_changes_nothing(volumes):
    prepare(volumes, HERE)
    before = contents(volumes)
    has_data(volumes)
    assert "complete" in prepare(volumes, HERE)
    assert contents(volumes) == before


def test_a_first_start_cut_off_before_the_note_is_begun_anew(volumes):
    prepare(volumes, HERE)
    volumes.note.unlink()
    before = contents(volumes)
    assert "made" in prepare(volumes, HERE)
    assert contents(volumes) != before


@pytest.mark.parametrize(
    "lost",
    [
        "gateway/pgpass",
        "worker/redis",
        "grafana/admin",
        "monitor/alerts",
        "alertmanager/alerts",
        "redis-exporter/redis",
        "postgres-exporter/postgres",
    ],
)
def test_lost_secrets_beside_data_are_refused_and_nothing_is_written(volumes, lost):
    prepare(volumes, HERE)
    has_data(volumes)
    (volumes.secrets / lost).unlink()
    with pytest.raises(SecretsLost, match=f"{lost}.*make renew"):
        prepare(volumes, HERE)
    assert not (volumes.secrets / lost).exists()


def test_a_lost_note_beside_data_is_refused(volumes):
    prepare(volumes, HERE)
    has_data(volumes)
    volumes.note.unlink()
    with pytest.raises(SecretsLost, match=r"installation\.json"):
        prepare(volumes, HERE)


def test_renewed_secrets_are_all_new(volumes):
    prepare(volumes, HERE)
    before = contents(volumes)
    renew(volumes, HERE)
    after = contents(volumes)
    assert all(after[path] != text for path, text in before.items())


def test_volumes_of_another_version_are_refused_with_what_to_do(volumes):
    prepare(volumes, {**HERE, "orrery": "0.1.0"})
    before = contents(volumes)
    with pytest.raises(OtherVersion, match=r"0\.1\.0, this is 0\.2\.0; `make upgrade`"):
        prepare(volumes, HERE)
    upgrade(volumes, HERE)
    assert "complete" in prepare(volumes, HERE)
    assert contents(volumes) == before


def test_data_of_another_postgres_are_not_upgraded_in_place(volumes):
    prepare(volumes, {**HERE, "postgres": "15"})
    for act in (prepare, upgrade):
        with pytest.raises(OtherVersion, match=r"PostgreSQL 15, this is 17.*make backup"):
            act(volumes, HERE)


def test_a_machine_too_small_is_told_how_much_is_needed():
    check_room(8 * 2**30, 20 * 2**30)
    with pytest.raises(TooSmall, match=r"2\.0 GB of memory here, and the platform needs 6 GB"):
        check_room(2 * 2**30, 20 * 2**30)
    with pytest.raises(TooSmall, match=r"1\.0 GB of disk here, and the platform needs 10 GB"):
        check_room(8 * 2**30, 2**30)


@pytest.mark.parametrize(
    ("image", "expected"), [("postgres:17.6-bookworm", "17"), ("local/postgres:15", "15"), ("host:5000/pg:v16", "16")]
)
def test_the_major_version_of_an_image(image, expected):
    assert major(image) == expected


def test_the_verifier_is_the_one_of_the_standard():
    """The exchange of RFC 7677, section 3: the server proves itself by the key that the verifier holds."""
    salt, nonce = "W22ZaJ0SNY7soEsUEjb6gQ==", "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    said = f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s={salt},i=4096,c=biws,r={nonce}"
    kept = verifier("pencil", base64.b64decode(salt))
    assert kept.startswith(f"SCRAM-SHA-256$4096:{salt}$")
    key = base64.b64decode(kept.rpartition(":")[2])
    signature = hmac.digest(key, said.encode(), "sha256")
    assert base64.b64encode(signature) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_a_salt_is_never_used_twice():
    assert verifier("pencil") != verifier("pencil")


def test_roles_and_databases_are_made_only_where_they_are_missing():
    text = roles({"orrery": "secret"})
    assert "secret" not in text
    assert text.count("WHERE NOT EXISTS") == 2


def test_the_exporters_read_statistics_with_passwords_of_their_own(volumes):
    prepare(volumes, HERE)
    told = json.loads((volumes.secrets / "redis-exporter" / "redis").read_text())
    assert list(told) == ["redis://redis:6379"]
    written = (volumes.public / "roles.sql").read_text()
    assert "GRANT pg_monitor TO exporter" in written
    assert "CREATE DATABASE exporter" not in written
    passwords = {*told.values(), (volumes.secrets / "postgres-exporter" / "postgres").read_text()}
    assert len(passwords) == 2
    assert not [
        path for path in volumes.secrets.glob("*/pgpass") if any(word in path.read_text() for word in passwords)
    ]


def test_the_command_says_what_it_did_and_what_it_refuses(volumes, capsys, monkeypatch):
    monkeypatch.setattr("orrery.installation.check_room", lambda memory, disk: None)
    image = ["--postgres-image", "postgres:17"]
    assert main(image, volumes) == 0
    assert main(["upgrade", *image], volumes) == 0
    has_data(volumes)
    assert main(["--postgres-image", "postgres:18"], volumes) == 1
    said = capsys.readouterr()
    assert "init: secrets made" in said.out
    assert said.err.startswith("init: the volumes hold PostgreSQL 17")
    assert not [text for text in contents(volumes).values() if text in said.out + said.err]
    volumes.note.unlink()
    assert main(["upgrade", *image], volumes) == 1
    assert "no installation to upgrade" in capsys.readouterr().err
