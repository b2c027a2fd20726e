"""Adding a use case touches one folder."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orrery.settings import child_environment, load

ROOT = Path(__file__).parent.parent
PARTS = ("orrery", "usecases", "cli", "pipelines", "services", "feature_repo", "tests", "pyproject.toml")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The project with one more folder under `usecases/`."""
    root = tmp_path_factory.mktemp("project")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, root / part)
    before = contents(root)
    shutil.copytree(ROOT / "tests" / "toy" / "tips", root / "usecases" / "tips")
    yield root
    assert {path: content for path, content in contents(root).items() if "usecases/tips" not in str(path)} == before


def contents(root):
    """The project's own files."""
    return {path: path.read_bytes() for part in PARTS for path in sorted((root / part).rglob("*.py"))}


def run(copy, *command):
    environment = child_environment(load(), {"PYTHONPATH": str(copy), "ORRERY_HOME": str(copy / "var")})
    done = subprocess.run(
        [sys.executable, *command], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def ask(copy, code):
    """The JSON that `code` prints."""
    return json.loads(run(copy, "-c", code).splitlines()[-1])


def test_it_gets_an_endpoint(copy):
    code = "import json; from orrery.settings import settings; from services.gateway.app import create_app"
    paths = ask(copy, f"{code}; print(json.dumps(sorted(create_app(settings()).openapi()['paths'])))")
    assert {"/v1/tips/predict", "/v1/tips/feedback"} <= set(paths)


@pytest.mark.slow
def test_it_gets_flows(copy):
    code = "import json; from pipelines.deployments import deployments"
    names = ask(copy, f"{code}; print(json.dumps(sorted(d.full_name for d in deployments())))")
    assert {"release/tips", "materialize/tips"} <= set(names)


@pytest.mark.slow
def test_it_gets_feature_views(copy):
    code = "import json, feature_repo.definitions as d; from feast import FeatureView"
    found = ask(
        copy, f"{code}; print(json.dumps(sorted(v.name for v in vars(d).values() if isinstance(v, FeatureView))))"
    )
    assert {"waiter_visits", "table_features"} <= set(found)


@pytest.mark.slow
def test_it_gets_contract_tests_and_passes_them(copy):
    printed = run(copy, "-m", "pytest", "tests/contract", "-k", "tips", "-p", "no:xdist", "-vv")
    assert "test_batch_equals_row_by_row[tips] PASSED" in printed
    assert "failed" not in printed
