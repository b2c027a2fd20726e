"""Prometheus: the configuration loads, the rules say what they promise, and name metrics that exist."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from cli.platform import write_prometheus
from orrery.settings import Settings

ROOT = Path(__file__).parents[2]
RULES = ROOT / "infra" / "prometheus" / "rules.yml"


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if not found:
        pytest.skip("promtool is not on the PATH")
    return found


def test_the_rules_do_what_they_say(promtool, tmp_path):
    cases = (Path(__file__).parent / "rules.yml").read_text().replace("RULES", str(RULES))
    (tmp_path / "cases.yml").write_text(cases)
    done = subprocess.run(
        [promtool, "test", "rules", str(tmp_path / "cases.yml")], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_loads_with_our_addresses(promtool, settings: Settings):
    write_prometheus(settings)
    written = settings.home / "prometheus" / "prometheus.yml"
    done = subprocess.run([promtool, "check", "config", str(written)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{settings.gateway.host}:{settings.gateway.port}" in written.read_text()


def test_the_rules_name_metrics_that_exist():
    named = set(re.findall(r"\bgateway_[a-z_]+", re.sub(r"record: .*|use_case\w*:\S+", "", RULES.read_text())))
    telemetry = (ROOT / "orrery" / "telemetry.py").read_text()

    assert named
    for name in named:
        stem = name.removesuffix("_bucket").removesuffix("_total")
        assert stem in telemetry, f"{name} is not a metric of ours"


def test_every_alert_has_a_runbook_that_says_what_to_do():
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    alerts = [rule for rule in rules if "alert" in rule]

    assert alerts
    for alert in alerts:
        runbook = (ROOT / alert["annotations"]["runbook"]).read_text()
        assert runbook.startswith(f"# {alert['alert']}\n")
        assert all(f"**{part}" in runbook for part in ("Check", "Act", "Confirm"))
