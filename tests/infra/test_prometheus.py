"""Prometheus: the configuration loads, the rules say what they promise, and name metrics that exist."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from sqlalchemy import create_engine

from cli.platform import write_prometheus
from orrery.adapters.audit_log import AuditLog
from orrery.adapters.watch_log import SkewLog, WatchLog
from orrery.settings import AlertmanagerSettings, GatewaySettings, Settings
from orrery.telemetry import GatewayMetrics
from orrery.torchserve_settings import TorchserveSettings
from services.monitor.flows import Orchestration
from services.monitor.metrics import Monitor
from services.monitor.release_metrics import ReleaseMetrics
from services.monitor.skew_metrics import SkewMetrics
from services.monitor.watch_metrics import WatchMetrics

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "infra" / "prometheus"
RULES = sorted(CONFIG.glob("*rules.yml"))
EXPORTED = {
    "redis_up", "redis_memory_used_bytes", "redis_memory_max_bytes", "redis_commands_duration_seconds_total",
    "redis_commands_processed_total", "redis_rejected_connections_total",
    "pg_up", "pg_stat_activity_count", "pg_settings_max_connections",
    "node_cpu_seconds_total", "node_memory_MemAvailable_bytes", "node_memory_MemTotal_bytes",
    "node_filesystem_avail_bytes", "node_filesystem_size_bytes",
}  # fmt: skip
"""what is asked of the exporters; tests/e2e/test_watched_platform.py finds each of them in a live scrape"""
_WORDS = {"and", "or", "unless", "on", "by", "group_left", "group_right", "bool", "offset"}


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if not found:
        pytest.skip("promtool is not on the PATH")
    return found


def rules_of(path: Path) -> list[dict]:
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def known_metrics() -> set[str]:
    """Every name that a scrape of the gateway, of the monitor or of Prometheus itself gives, and what rules record."""
    monitor = Monitor(lambda: Orchestration((), 0, None), "pool")
    monitor.poll()
    engine = create_engine("sqlite://")
    monitor.registry.register(WatchMetrics(WatchLog(engine), 1, monitor.errors))
    monitor.registry.register(SkewMetrics(SkewLog(engine), monitor.errors))
    monitor.registry.register(ReleaseMetrics(AuditLog(Settings()), monitor.errors))
    names = {"up", "ALERTS"} | {rule["record"] for path in RULES for rule in rules_of(path) if "record" in rule}
    for registry in (GatewayMetrics().registry, monitor.registry):
        for family in registry.collect():
            suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
            names |= {f"{family.name}{suffix}" for suffix in suffixes}
    return names | torchserve_metrics() | EXPORTED


def torchserve_metrics() -> set[str]:
    """What TorchServe counts, by its own configuration."""
    [package] = find_spec("ts").submodule_search_locations
    declared = yaml.safe_load((Path(package) / "configs" / "metrics.yaml").read_text())["ts_metrics"]
    return {metric["name"] for kind in declared.values() for metric in kind}


def metrics_named(expression: str) -> set[str]:
    """The metrics of a PromQL expression: what is neither function, label, text nor keyword."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]', " ", expression)
    bare = re.sub(r"\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    return set(re.findall(r"(?<![\w:$.])[a-zA-Z_][\w:]*\b(?!\s*\()", bare)) - _WORDS


def passes(promtool: str, folder: Path, cases: Path, rules: Path) -> subprocess.CompletedProcess[str]:
    written = folder / "cases.yml"
    written.write_text(cases.read_text().replace("RULES", str(rules)))
    return subprocess.run([promtool, "test", "rules", str(written)], capture_output=True, text=True, check=False)


def changes(rule: dict) -> Iterator[tuple[str, dict]]:
    """The rule without a guard, with thresholds out of reach and too near, too patient and without patience."""
    expression = rule["expr"]
    for guard in re.finditer(r"\n(and|or|unless) .*", expression):
        yield f"without `{guard[1]}`", {"expr": expression.replace(guard[0], "")}
    for threshold in re.finditer(r"(==|[<>]=?) ([\d.]+)", expression):
        value = float(threshold[2])
        for other in (value * 10 + 1, value / 10 or -0.01):
            changed = f"{expression[: threshold.start(2)]}{other}{expression[threshold.end(2) :]}"
            yield f"{threshold[0]} as {other}", {"expr": changed}
    if "for" in rule:
        yield "after an hour", {"for": "1h"}
        yield "at once", {"for": "0s"}


def mutants(path: Path) -> Iterator[object]:
    content = yaml.safe_load(path.read_text())
    for group, rules in enumerate(each["rules"] for each in content["groups"]):
        for number, rule in enumerate(rules):
            for name, change in changes(rule) if "alert" in rule else ():
                mutant = deepcopy(content)
                mutant["groups"][group]["rules"][number] |= change
                yield pytest.param(path, mutant, id=f"{rule['alert']} {name}")


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_the_rules_do_what_they_say(promtool, tmp_path, path):
    done = passes(promtool, tmp_path, Path(__file__).with_name(path.name), path)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("path", "mutant"), [mutant for path in RULES for mutant in mutants(path)])
def test_a_rule_without_a_guard_or_with_another_threshold_is_noticed(promtool, tmp_path, path, mutant):
    (tmp_path / "mutant.yml").write_text(yaml.safe_dump(mutant))

    done = passes(promtool, tmp_path, Path(__file__).with_name(path.name), tmp_path / "mutant.yml")

    assert "FAILED" in done.stdout + done.stderr
    assert "error" not in (done.stdout + done.stderr).lower()


def test_the_rules_named_are_those_that_are_there():
    assert sorted(yaml.safe_load((CONFIG / "prometheus.yml").read_text())["rule_files"]) == [p.name for p in RULES]


def test_the_configuration_loads(promtool):
    done = subprocess.run(
        [promtool, "check", "config", str(CONFIG / "prometheus.yml")], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("alertmanager", "where"),
    [
        ({"enabled": "never"}, None),
        ({"enabled": "never", "url": "https://alerts.example:9443"}, ("https", "alerts.example:9443")),
        ({"enabled": "always", "port": 9099}, ("http", "127.0.0.1:9099")),
    ],
)
def test_the_configuration_of_orrery_up_loads_with_our_addresses(
    promtool, settings: Settings, monkeypatch, alertmanager, where
):
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: found(name) or ("/there" if name == "alertmanager" else None))
    settings = settings.model_copy(
        update={
            "gateway": GatewaySettings(url="https://gateway.example"),
            "torchserve": TorchserveSettings(enabled="always"),
            "alertmanager": AlertmanagerSettings(**alertmanager),
        }
    )
    write_prometheus(settings)
    written = settings.home / "prometheus" / "prometheus.yml"
    done = subprocess.run([promtool, "check", "config", str(written)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    content = yaml.safe_load(written.read_text())
    scraped = {job["job_name"]: (job["scheme"], job["static_configs"]) for job in content["scrape_configs"]}
    assert scraped.pop("alertmanager", None) == (where and (where[0], [{"targets": [where[1]]}]))
    assert scraped == {
        "gateway": ("https", [{"targets": ["gateway.example"]}]),
        "monitor": ("http", [{"targets": ["127.0.0.1:8001"]}]),
        "prometheus": ("http", [{"targets": ["127.0.0.1:9090"]}]),
        "torchserve": ("http", [{"targets": ["127.0.0.1:7082"]}]),
    }
    told = content.get("alerting", {}).get("alertmanagers")
    assert told == (where and [{"scheme": where[0], "static_configs": [{"targets": [where[1]]}]}])


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_the_rules_name_metrics_that_exist(path):
    named = set().union(*(metrics_named(rule["expr"]) for rule in rules_of(path)))

    assert named
    assert named - known_metrics() == set()


def test_a_metric_that_does_not_exist_is_noticed():
    expression = 'sum by (use_case) (rate(gateway_predictions_total{outcome!="x"}[5m])) > 2 * gateway_prediction'
    assert metrics_named(expression) == {"gateway_predictions_total", "gateway_prediction"}
    assert metrics_named(expression) - known_metrics() == {"gateway_prediction"}


def test_a_record_of_a_window_is_made_of_that_window():
    records = [rule for path in RULES for rule in rules_of(path) if "record" in rule]
    named = [(re.search(r"(?:rate|increase)(\d+[mhd])$", rule["record"]), rule["expr"]) for rule in records]

    assert len([name for name, _ in named if name]) > 10
    assert all(set(re.findall(r"\[(\w+)\]", expression)) == {name[1]} for name, expression in named if name)


def test_what_starts_a_training_is_what_the_watch_sees():
    alerts = [rule for path in RULES for rule in rules_of(path) if "alert" in rule]
    asking = {alert["alert"]: alert["labels"]["severity"] for alert in alerts if "respond" in alert["labels"]}

    assert asking == {"DriftSustained": "ticket", "QualityParted": "ticket"}


def test_every_alert_has_a_severity_and_a_runbook_that_says_what_to_do():
    alerts = [rule for path in RULES for rule in rules_of(path) if "alert" in rule]

    assert alerts
    for alert in alerts:
        assert alert["labels"]["severity"] in ({"none"} if alert["alert"] == "Watchdog" else {"page", "ticket"})
        runbook = (ROOT / alert["annotations"]["runbook"]).read_text()
        assert runbook.startswith(f"# {alert['alert']}\n")
        assert all(f"**{part}" in runbook for part in ("Check", "Act", "Confirm"))
