"""Dashboard and alerts: they read what replicas give, in PromQL that Prometheus takes, and fire when they should."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from servers import missing_server

from configs.load import PROJECT_ROOT, load_environment
from serving.metrics import METRICS
from serving.ray_metrics import RAY_PREFIX

DEPLOY = PROJECT_ROOT / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
DASHBOARD = DEPLOY / "grafana" / "mlway-serving.json"
EXAMPLES = Path(__file__).parent / "alerts_examples.yaml"
WORDS = {"absent", "and", "group_left", "histogram_quantile", "max", "min", "offset", "on", "rate", "sum", "d", "m"}


def rules() -> list[dict[str, Any]]:
    content = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    return [rule for group in content["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return content


def expressions() -> Iterator[tuple[str, str]]:
    """Name and PromQL of every alert and every line of the dashboard, its variables filled in."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            filled = target["expr"].replace("$product", ".+").replace("$__rate_interval", "5m")
            yield f"{panel['title']} {target['refId']}", filled


def exposed_labels() -> dict[str, set[str]]:
    """The series that Ray exposes, with their labels."""
    exposed: dict[str, set[str]] = {}
    for name, metric in METRICS.items():
        labels = set(metric.labels)
        if metric.kind != "histogram":
            exposed[RAY_PREFIX + name] = labels
            continue
        exposed[f"{RAY_PREFIX}{name}_bucket"] = labels | {"le"}
        if metric.has_sum:
            exposed |= {f"{RAY_PREFIX}{name}_{part}": labels for part in ("sum", "count")}
    return exposed


EXPRESSIONS = dict(expressions())
EXPOSED = exposed_labels()


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_reads_metrics_and_labels_that_replicas_give(name: str) -> None:
    text = EXPRESSIONS[name]
    assert text.count("(") == text.count(")")
    read = re.findall(r"\b[a-z]+_mlway_\w+", text)
    assert read
    assert set(read) <= EXPOSED.keys()
    for metric, selector in re.findall(r"\b(\w+_mlway_\w+)\{([^}]*)\}", text):
        assert set(re.findall(r"(\w+)(?:=~|!~|!=|=)", selector)) <= EXPOSED[metric]
    known = set().union(*(EXPOSED[metric] for metric in read))
    for listed in re.findall(r"\b(?:by|on) \(([^)]*)\)", text):
        assert set(re.split(r",\s*", listed)) <= known
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\b(?:by|on) \([^)]*\)', " ", text)
    assert set(re.findall(r"[A-Za-z_]\w*", bare)) - WORDS <= set(read)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_happens_how_bad_it_is_and_how_long_it_lasted(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"Mlway[A-Za-z]+", rule["alert"])
    assert re.fullmatch(r"\d+m", rule["for"])
    assert rule["labels"]["severity"] in ("page", "warn")
    assert rule["annotations"].keys() == {"summary", "description"}


def test_the_dashboard_can_be_imported_and_shows_every_metric() -> None:
    board = dashboard()
    assert (board["uid"], board["schemaVersion"]) == ("mlway-serving", 39)
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource", "product"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(set(places)) == len(places)
    shown = json.dumps(board)
    assert [name for name in METRICS if RAY_PREFIX + name not in shown] == []


def test_every_metric_is_described_for_operators() -> None:
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    assert [name for name in METRICS if f"`{RAY_PREFIX}{name}`" not in text] == []


def test_prometheus_is_pointed_at_the_port_of_the_local_environment() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text(encoding="utf-8"))
    port = load_environment("local").ports.ray_head + 4
    assert config["scrape_configs"][0]["static_configs"] == [{"targets": [f"127.0.0.1:{port}"]}]
    assert config["rule_files"] == [ALERTS.name]


def promtool(*arguments: object) -> None:
    program = shutil.which("promtool")
    if program is None:
        missing_server("promtool", "prometheus")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_configuration_and_the_rules() -> None:
    promtool("check", "config", DEPLOY / "prometheus" / "prometheus.yaml")


def test_prometheus_takes_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    recorded = [{"record": f"panel:{n}", "expr": text} for n, text in enumerate(EXPRESSIONS.values())]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}), encoding="utf-8")
    promtool("check", "rules", file)


def test_alerts_fire_on_what_they_are_for_and_on_nothing_else(tmp_path: Path) -> None:
    for file in (ALERTS, EXAMPLES):
        shutil.copy(file, tmp_path)
    promtool("test", "rules", tmp_path / EXAMPLES.name)
