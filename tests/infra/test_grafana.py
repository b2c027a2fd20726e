"""Grafana: what is provisioned is complete, and asks for metrics that exist in expressions that parse."""

import configparser
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from infra.test_prometheus import CONFIG, known_metrics, metrics_named

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "infra" / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
VARIABLES = {"$use_case": ".*", "$__rate_interval": "20s", "$__range": "1h", "$__interval": "5s"}
each_dashboard = pytest.mark.parametrize(
    "dashboard", [json.loads(path.read_text()) for path in DASHBOARDS], ids=[path.stem for path in DASHBOARDS]
)


def panels(dashboard: dict) -> list[dict]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(dashboard: dict) -> list[str]:
    asked = [target["expr"] for panel in panels(dashboard) for target in panel["targets"]]
    return asked + [each["expr"] for each in dashboard["annotations"]["list"]]


def substituted(expression: str) -> str:
    """The expression as Grafana sends it."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def values_of(tree: object, key: str) -> Iterator[object]:
    """Every value that is kept under `key`, however deep."""
    if isinstance(tree, dict):
        yield from (value for name, value in tree.items() if name == key)
    if isinstance(tree, dict | list):
        for branch in tree.values() if isinstance(tree, dict) else tree:
            yield from values_of(branch, key)


def test_there_is_a_dashboard_for_each_question():
    assert [path.stem for path in DASHBOARDS] == ["feature-store", "model-quality", "pipelines", "platform", "use-case"]


def test_dashboards_have_names_of_their_own():
    written = {path.stem: json.loads(path.read_text()) for path in DASHBOARDS}

    assert {name: dashboard["uid"] for name, dashboard in written.items()} == {
        name: f"orrery-{name}" for name in written
    }
    assert len({dashboard["title"] for dashboard in written.values()}) == len(written)


@each_dashboard
def test_dashboards_lead_to_each_other_and_to_the_alerts(dashboard):
    others = dashboard["links"][0]

    assert (others["type"], others["tags"], others["keepTime"], others["includeVars"]) == (
        "dashboards", ["orrery"], True, True
    )  # fmt: skip
    assert "orrery" in dashboard["tags"]
    assert any(link.get("url", "").endswith("/alerts") for link in dashboard["links"])


@each_dashboard
def test_deploys_and_retrainings_are_drawn(dashboard):
    deploys, retrainings = dashboard["annotations"]["list"]

    for drawn, metric in ((deploys, "model_loaded_timestamp_seconds"), (retrainings, "retrain_total")):
        assert re.fullmatch(rf"changes\({metric}\{{.*\}}\[1m\]\) > 0", drawn["expr"])
        assert drawn["enable"]


@each_dashboard
def test_every_panel_says_what_it_shows_in_which_unit(dashboard):
    for panel in panels(dashboard):
        assert panel["title"]
        assert len(panel["description"]) > 40, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


@each_dashboard
def test_every_panel_asks_the_one_data_source(dashboard):
    text = json.dumps(dashboard)

    assert "${DS_" not in text
    assert "__inputs" not in text
    assert all(panel["datasource"]["uid"] == "prometheus" for panel in panels(dashboard))
    assert {source["uid"] for source in values_of(dashboard, "datasource")} == {"prometheus"}


@each_dashboard
def test_panels_have_a_place_of_their_own(dashboard):
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    taken = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert min(at["w"], at["h"]) > 0, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


@each_dashboard
def test_every_metric_exists(dashboard):
    named = set().union(*map(metrics_named, expressions(dashboard)))

    assert named
    assert named - known_metrics() == set()


@each_dashboard
def test_every_expression_parses(dashboard, tmp_path):
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not on the PATH")
    rules = []
    for number, expression in enumerate(map(substituted, expressions(dashboard))):
        assert "$" not in expression
        rules.append({"record": f"panel:expression:{number}", "expr": expression})
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


@each_dashboard
def test_rates_span_what_grafana_says(dashboard):
    spans = [span for each in expressions(dashboard) for span in re.findall(r"\brate\([^\[]*\[([^\]]*)\]", each)]

    assert spans
    assert set(spans) == {"$__rate_interval"}, "rates that a rule records have a span of their own"


@each_dashboard
def test_the_use_case_can_be_chosen(dashboard):
    [variable] = dashboard["templating"]["list"]

    assert (variable["name"], variable["multi"], variable["includeAll"]) == ("use_case", True, True)
    names = "gateway_prediction|gateway_stage_|gateway_decisions|gateway_feedback|use_case_|model_(?!name|version)|slo:"
    names += (
        "|drift_|score_drift_|feature_(?!view[,)])|label_[lm]a|quality_|realized_|estimated_|prediction_score|flow_run"
    )
    of_a_use_case = re.compile(rf"(?<![\w:])({names})[\w:]*(\{{[^}}]*\}})?(?!\()")
    for expression in expressions(dashboard):
        for match in of_a_use_case.finditer(expression):
            assert 'use_case=~"$use_case"' in (match[2] or ""), expression


@each_dashboard
def test_use_cases_to_choose_are_those_of_a_metric_that_exists(dashboard):
    [variable] = dashboard["templating"]["list"]
    [(metric, label)] = re.findall(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])

    assert metric in known_metrics()
    assert label == "use_case"
    assert variable["definition"] == variable["query"]["query"]


@each_dashboard
def test_the_runbooks_named_exist(dashboard):
    named = set(re.findall(r"docs/runbooks/[\w-]+\.md", json.dumps(dashboard)))

    assert named
    assert not [name for name in named if not (ROOT / name).is_file()]


def test_the_data_source_has_the_name_that_dashboards_use_and_the_step_of_the_scrapes():
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]

    assert (source["uid"], source["url"], source["editable"]) == ("prometheus", "http://prometheus:9090", False)
    scrapes = yaml.safe_load((CONFIG / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrapes


def test_the_dashboards_lie_where_grafana_looks():
    [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/orrery.yml").read_text())["providers"]
    mounted = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]["volumes"]
    home = configparser.ConfigParser(interpolation=None)
    home.read(GRAFANA / "grafana.ini")

    assert "./infra/grafana:/etc/grafana:ro" in mounted
    assert provider["allowUiUpdates"] is False
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
    assert home["dashboards"]["default_home_dashboard_path"] == "/etc/grafana/dashboards/platform.json"
