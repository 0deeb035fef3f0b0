"""Every alarm that deploy/ sets names its runbook, and docs/deploy.md has it."""

import re

import pytest
import yaml
from tests.support import ROOT

DEPLOY = ROOT / "deploy"
RUNBOOK = re.compile(r"Runbook: docs/deploy\.md#([a-z0-9-]+)\.")


def alarms() -> dict[str, str]:
    """What is said of each alarm: of the clouds' (a description in a map named alarms), and of Prometheus's rules."""
    found = {}
    for file in DEPLOY.rglob("*.tf"):
        for name, said in re.findall(r"([\w-]+|\"\S+\") =>? \{\n\s+description = \"(.+)\"\n", file.read_text()):
            found[f"{file.relative_to(DEPLOY)}: {name}"] = said
    for file in (*DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.yml")):
        if "alert:" in (text := file.read_text()):
            for group in yaml.safe_load(text)["groups"]:
                for rule in group["rules"]:
                    assert rule["expr"] and rule["annotations"]["summary"], rule
                    found[f"{file.relative_to(DEPLOY)}: {rule.get('alert')}"] = str(rule.get("annotations"))
    return found


def anchors() -> set[str]:
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs/deploy.md").read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("alarm", "said"), sorted(alarms().items()))
def test_an_alarm_names_a_runbook_that_is_there(alarm: str, said: str) -> None:
    named = RUNBOOK.search(said)
    assert named is not None, f"{alarm} names no runbook: {said}"
    assert named[1] in anchors(), f"{alarm}: docs/deploy.md has no heading for {named[1]}"


def test_a_metric_that_the_page_or_a_rule_names_is_exported() -> None:
    rules = "".join(file.read_text() for file in (DEPLOY / "prometheus").iterdir())
    named = set(re.findall(r"\b(meridian_\w+)", rules + (ROOT / "docs/deploy.md").read_text()))
    sources = "".join(file.read_text() for file in (ROOT / "cluster").rglob("*.py"))
    assert len(named) >= 4 and all(f'"{name}"' in sources for name in named), named


def test_all_alarms_of_the_clouds_are_seen() -> None:
    assert {name.split(": ")[1].split("-")[0].strip('"') for name in alarms()} >= {"no", "nodes", "etcd"}
    assert len(alarms()) >= 13
