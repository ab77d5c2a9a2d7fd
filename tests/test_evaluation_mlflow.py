"""Claims about the export to MLflow, read back with its own client from a real store."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import Project
from test_evaluation_page import judged  # noqa: F401 - a fixture

from ai_assets.evaluation.scoring import Score
from ai_assets.run.evaluation_mlflow import COMPLETE, MlflowRefused, NoReleaseYet, export_releases, metric_name
from ai_assets.signoff.release_cards import card_of
from ai_assets.storage.stores import Stores

if TYPE_CHECKING:
    import mlflow
elif find_spec("mlflow") is None:
    pytest.skip("mlflow-skinny is not installed (tests/engines.txt)", allow_module_level=True)


pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
"""Of MLflow's own tables."""


@pytest.fixture
def home(judged: Project) -> Stores:  # noqa: F811
    return judged.stores()


def runs_in(folder: Path) -> "tuple[mlflow.MlflowClient, list[mlflow.entities.Run]]":
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("ai-assets/notes")
    return client, client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])


def test_a_release_is_a_run_with_scores_intervals_params_and_its_card_and_only_once(
    home: Stores, tmp_path: Path
) -> None:
    done = export_releases(home, "notes", str(tmp_path))
    assert (done.made, done.kept) == ((1, 2), ())
    client, runs = runs_in(tmp_path)
    assert [run.info.run_name for run in runs] == ["notes release 1", "notes release 2"]
    kept = card_of(home, "notes", 2)
    found = runs[1].data
    accuracy = found.metrics["kind/accuracy"]
    assert found.metrics["kind/accuracy.low"] < accuracy <= found.metrics["kind/accuracy.high"]
    assert found.metrics["kind/accuracy.n"] == 6
    assert 0 <= found.metrics["slice/language en"] <= 1
    assert [each.step for each in client.get_metric_history(runs[1].info.run_id, "kind/accuracy")] == [2]
    assert (found.params["collection"], found.params["digest"]) == ("notes", kept.card.digest)
    assert runs[1].info.status == "FINISHED"
    file = client.download_artifacts(runs[1].info.run_id, "card.json", str(tmp_path))
    assert Path(file).read_text() == kept.text
    again = export_releases(home, "notes", f"sqlite:///{tmp_path}/mlflow.db")
    assert (again.made, again.kept) == ((), (1, 2))
    assert len(runs_in(tmp_path)[1]) == 2


def test_what_a_killed_export_left_is_made_again(home: Stores, tmp_path: Path) -> None:
    export_releases(home, "notes", str(tmp_path))
    client, runs = runs_in(tmp_path)
    client.delete_tag(runs[0].info.run_id, COMPLETE)  # as it is before the last step
    assert export_releases(home, "notes", str(tmp_path)).made == (1,)
    later = runs_in(tmp_path)[1]
    assert len(later) == 2
    assert runs[0].info.run_id not in {run.info.run_id for run in later}


def test_mistakes_are_one_sentence(home: Stores, project: Project, tmp_path: Path) -> None:
    with pytest.raises(MlflowRefused, match="did not take the export"):
        export_releases(home, "notes", f"file://{tmp_path}/runs")
    (tmp_path / "file").write_text("x")
    with pytest.raises(MlflowRefused, match=r"File exists|Not a directory"):
        export_releases(home, "notes", str(tmp_path / "file"))
    project.declare()
    with pytest.raises(NoReleaseYet, match="ai-assets publish notes"):
        export_releases(project.stores(), "notes", str(tmp_path))
    name = metric_name(Score(metric="recall@5", scope="corpus", stage=None, value=1.0, n=1))
    assert name == "recall_at_5"


MISSING = """
import sys
sys.modules["mlflow"] = None
from ai_assets.run.evaluation_mlflow import MlflowMissing, _mlflow
try:
    _mlflow()
except MlflowMissing as error:
    print(error)
"""


@pytest.mark.slow
def test_the_command_exports_and_without_the_package_says_which_one(judged: Project, tmp_path: Path) -> None:  # noqa: F811
    said = judged.cli("evaluate", "notes", "--json", "--mlflow", str(tmp_path / "ml"))
    assert "MLflow: 2 runs made in ai-assets/notes, 0 there already." in said.stderr, said.stderr
    assert json.loads(said.stdout)["collection"] == "notes"
    told = subprocess.run([sys.executable, "-c", MISSING], capture_output=True, text=True, check=True).stdout
    assert told.strip() == (
        "Exporting to MLflow takes the package mlflow-skinny, which is missing: pip install mlflow-skinny"
    )


@pytest.mark.slow
def test_nothing_of_mlflow_is_imported_before_it_is_asked_for() -> None:
    source = "import sys, ai_assets.cli.evaluate, ai_assets.run.evaluation_mlflow; print('mlflow' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "False"
