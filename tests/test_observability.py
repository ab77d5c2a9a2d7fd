"""Claims about deploy/observability: alerts, dashboard and autoscaler name metrics and labels that the desk exports."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY

from ai_assets.desk.metrics.families import FAMILIES, PREFIX

FOLDER = REPOSITORY / "deploy" / "observability"
ALERTS = yaml.safe_load((FOLDER / "alerts.yaml").read_text())
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
DOCS = (REPOSITORY / "docs" / "observability.md").read_text()
WORDS = set("and or unless by without on ignoring group_left group_right sum rate min max avg count min_over_time "
            "max_over_time increase label_values up".split())  # fmt: skip
"""Of PromQL and Grafana, as far as they are used here."""


def names_in(expression: str) -> dict[str, set[str]]:
    """The metrics of an expression, each with the labels that it is selected or grouped by."""
    found: dict[str, set[str]] = {}
    bare = re.sub(r'"[^"]*"', '""', expression)
    for name, selected in re.findall(r"([a-zA-Z_:][\w:]*)(?:\{([^}]*)\})?", bare):
        if name.startswith(PREFIX):
            found.setdefault(name, set()).update(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selected or ""))
    grouped = {label.strip() for labels in re.findall(r"\bby \(([^)]*)\)", bare) for label in labels.split(",")}
    for labels in found.values():
        labels |= grouped
    without = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(?:by|without) \([^)]*\)", "", bare)
    unknown = set(re.findall(r"[a-zA-Z_]\w*", without)) - WORDS - set(found) - {"tenant", "collection"}
    assert not unknown, (expression, unknown)
    return found


def expressions() -> Iterator[tuple[str, str]]:
    for group in ALERTS["groups"]:
        yield from ((rule["alert"], rule["expr"]) for rule in group["rules"])
    for panel in DASHBOARD["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel.get("targets", ()))
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]


@pytest.mark.parametrize(("where", "expression"), [*expressions()])
def test_what_is_asked_for_is_exported(where: str, expression: str) -> None:
    found = names_in(expression)
    assert found or "up{" in expression, where
    for name, labels in found.items():
        assert name in FAMILIES, f"{where}: {name}"
        assert labels <= set(FAMILIES[name].labels), (
            f"{where}: {name} has no label {labels - set(FAMILIES[name].labels)}"
        )


def test_a_name_that_is_not_exported_would_be_found() -> None:
    assert names_in('sum by (tenant) (ai_assets_nothing{endpoint="x"}) > 1') == {
        "ai_assets_nothing": {"endpoint", "tenant"}
    }
    with pytest.raises(AssertionError, match="histogram_quantile"):
        names_in("histogram_quantile(0.9, ai_assets_runs)")


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {
        name
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
        for name in names_in(target["expr"])
    }
    assert shown == set(FAMILIES)


def test_labels_of_a_legend_or_a_sentence_are_there() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            labels = {label for name in names_in(target["expr"]) for label in FAMILIES[name].labels}
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels, panel["title"]
    for rule in (rule for group in ALERTS["groups"] for rule in group["rules"]):
        labels = {label for name in names_in(rule["expr"]) for label in FAMILIES[name].labels}
        assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= labels, rule["alert"]
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["annotations"]["summary"].endswith(".")


def test_the_dashboard_is_whole() -> None:
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_the_metric_of_the_adapter_is_made_of_one_of_ours() -> None:
    (rule,) = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    assert rule["seriesQuery"].partition("{")[0] in FAMILIES
    hpa = (REPOSITORY / "deploy" / "base" / "autoscaling.yaml").read_text()
    assert f"name: {rule['name']['as']}\n" in hpa


def test_every_metric_is_documented_with_its_labels() -> None:
    (table,) = re.findall(r"<!-- metrics:begin.*?-->\n(.*?)<!-- metrics:end -->", DOCS, re.DOTALL)
    documented = {
        re.findall(r"`(\w+)`", cells[1])[0]: tuple(re.findall(r"`(\w+)`", cells[2]))
        for line in table.splitlines()
        if (cells := line.split("|"))[1:] and cells[1].strip().startswith("`")
    }
    assert documented == {name.removeprefix(PREFIX): family.labels for name, family in FAMILIES.items()}
