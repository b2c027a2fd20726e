"""What is installed is what runs: no file that code reads is left behind."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("cli", "feature_repo", "orrery", "pipelines", "services", "usecases")


@pytest.mark.slow
def test_a_wheel_has_every_file_beside_the_code(tmp_path):
    command = [sys.executable, "-m", "uv", "build", "--wheel", "--no-build-isolation", "--quiet"]
    subprocess.run([*command, "--out-dir", str(tmp_path), str(ROOT)], check=True, capture_output=True, timeout=120)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    tracked = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    data = [name for name in tracked if not name.endswith((".py", ".md"))]
    assert "usecases/imaging/deid_profile.csv" in data
    assert [name for name in data if name not in inside] == []
