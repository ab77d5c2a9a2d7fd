"""The claim about examples/analyst.ipynb: it answers its questions of a published project, with no network."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from provider import Provider
from signing import decide, known
from test_llm_stages import BILL, DAY, FIRE, PRICED, run
from test_stage_settings import KIND, declare
from warehouses import build

from ai_assets.signoff.publication import publish

NOTEBOOK = Path(__file__).parents[1] / "examples" / "analyst.ipynb"
needs_nbclient = pytest.mark.skipif(
    importlib.util.find_spec("nbclient") is None or importlib.util.find_spec("ipykernel") is None,
    reason="nbclient and ipykernel are not here: pip install -r tests/engines.txt",
)


def test_the_notebook_is_kept_without_outputs_and_names_no_machine() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)
    assert sum("".join(cell["source"]).startswith("## ") for cell in cells) >= 10
    assert not any(place in NOTEBOOK.read_text(encoding="utf-8") for place in ("/work/", "/home/", "/root/", "/tmp/"))


@pytest.fixture
def office(project: Project, provider: Provider) -> Project:
    """Two releases that asked a model, and a review that waits."""
    (project.root / "inference.yaml").write_text(PRICED)
    for n in range(2):
        project.document(f"{DAY}/bill-{n}.txt", BILL.format(n=n + 1))
        project.document(f"{DAY}/fire-{n}.txt", FIRE.format(n=n + 1))
    collection = declare(project, [KIND])
    run(project, collection)
    stores = project.stores()
    known(stores.state)
    for text in ("A letter about a leak.", "A bill of 12.00 for a pump."):
        decide(stores.state, collection)
        publish(collection, stores, by="ann")
        project.document(f"{DAY}/fire-1.txt", text)
        run(project, collection)
    build(stores)
    return project


@pytest.mark.slow
@needs_nbclient
def test_every_question_is_answered(office: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    for name, value in {**office.home.variables(), "COLLECTION": "notes"}.items():
        monkeypatch.setenv(name, value)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    place = {"metadata": {"path": str(office.root)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place).execute()
    shown = dict(_answers(notebook.cells))
    assert "Release 2, published" in shown["1"]
    assert "relabelled" in shown["2"] or "changed" in shown["2"]
    assert "incident" in shown["3"]
    assert "mini" in shown["4"]
    assert "ann" in shown["5"]
    assert "confidence" in shown["7"]
    assert f"{DAY}/" in shown["8"]
    assert "published" in shown["9"]
    assert DAY in shown["10"]
    assert "release 1" in shown["11"]
    assert "Empty DataFrame" not in "".join(shown[each] for each in shown if each != "6")


def _answers(cells: Any) -> Any:
    """By the number of the question, what is shown below it."""
    number = "0"
    for cell in cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            number = cell.source.removeprefix("## ").partition(".")[0]
        elif cell.cell_type == "code":
            outputs = [each.get("text") or each.get("data", {}).get("text/plain", "") for each in cell.outputs]
            yield number, "\n".join(outputs)
