"""Every metric there is, against what names them: the table in the documents, dashboard and alert rules."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests import promql
from tests.metrics_fakes import registries
from tests.unit.test_docs import DOCS, anchors

ROOT = DOCS.parent
ALERTS = yaml.safe_load((ROOT / "compose" / "prometheus" / "alerts.yml").read_text())
DASHBOARD = json.loads((ROOT / "compose" / "grafana" / "moorage.json").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
_ROW = re.compile(r"^\| `(moorage_\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", re.MULTILINE)


def known() -> dict[str, tuple[str, frozenset[str], frozenset[str], str]]:
    """Kind, labels, processes and description of each of our metrics, by the name of its samples."""
    found: dict[str, tuple[str, frozenset[str], frozenset[str], str]] = {}
    for process, registry in registries().items():
        for metric in registry.collect():
            if not metric.name.startswith("moorage_"):
                continue
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            name = f"{metric.name}_info" if metric.type == "info" else name
            labels = frozenset(label for sample in metric.samples for label in sample.labels) - {"le"}
            before = found.get(name)
            processes = frozenset({process}) | (before[2] if before else frozenset())
            found[name] = (metric.type, labels, processes, metric.documentation)
    return found


def told() -> dict[str, tuple[str, frozenset[str], frozenset[str], str]]:
    text = (DOCS / "metrics.md").read_text()
    return {
        name: (
            kind,
            frozenset(re.findall(r"`(\w+)`", labels)),
            frozenset(where.split(", ")),
            description.strip(),
        )
        for name, kind, labels, where, description in _ROW.findall(text)
    }


def test_the_table_of_metrics_is_what_processes_tell():
    assert told() == known()


def test_names_follow_the_conventions():
    for name, (kind, _, _, _) in known().items():
        assert (kind == "counter") == name.endswith("_total"), name
        assert not re.search(r"_(ms|milliseconds|minutes|count|sum|bucket)$", name), name


def expressions() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']}", target["expr"]


def series() -> dict[str, frozenset[str]]:
    """The labels of every series that Prometheus will have of us, by name; of each process's own, too."""
    found: dict[str, set[str]] = {}
    for registry in registries().values():
        for metric in registry.collect():
            for sample in metric.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return {name: frozenset(labels | {"instance", "job"}) for name, labels in found.items()}


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_what_is_asked_for_is_there(where: str, expression: str):
    there = series()
    asked = promql.selected(expression)
    assert asked, f"{where} asks for nothing"
    for name, labels in asked:
        assert name in there, f"{where}: there is no {name}"
        assert labels <= there[name], f"{where}: {name} has no {labels - there[name]}"
    allowed = frozenset().union(*(there[name] for name, _ in asked))
    assert promql.grouped(expression) <= allowed, where


@pytest.mark.parametrize(
    ("text", "labels", "expression"),
    [
        (text, frozenset(re.findall(r"\$labels\.(\w+)", text)), rule["expr"])
        for rule in RULES
        for text in rule["annotations"].values()
    ],
)
def test_what_an_alert_says_of_labels_it_has(text: str, labels: frozenset[str], expression: str):
    there = series()
    had = promql.grouped(expression)
    if not had:
        had = frozenset().union(*(there[name] for name, _ in promql.selected(expression)))
    assert labels <= had, text


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_leads_to_its_heading(rule: dict[str, Any]):
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert anchor == rule["alert"].lower()
    assert anchor in anchors(ROOT / page)
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]


def test_every_heading_of_an_alert_has_its_alert():
    section = (DOCS / "operations.md").read_text().split("\n## Alerts\n")[1].split("\n## ")[0]
    assert re.findall(r"^### (\w+)$", section, re.MULTILINE) == [rule["alert"] for rule in RULES]


def test_panels_are_told_apart_and_lie_beside_one_another():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_dashboard_shows_every_metric_but_the_details():
    shown = {name for _, expression in expressions() for name, _ in promql.selected(expression)}
    left_out = {name for name in known() if not any(each.startswith(name) for each in shown)}
    assert left_out == set()


def test_the_folder_has_nothing_that_was_not_looked_at():
    files = {
        path.name for folder in ("prometheus", "grafana") for path in (ROOT / "compose" / folder).iterdir()
    }
    assert files == {"alerts.yml", "moorage.json"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool here (package prometheus)")
def test_prometheus_takes_the_rules():
    rules = ROOT / "compose" / "prometheus" / "alerts.yml"
    done = subprocess.run(["promtool", "check", "rules", rules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout
