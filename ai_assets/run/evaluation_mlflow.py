"""Releases as runs of MLflow: scores with their intervals, what made them, and the model card as an artifact.

A run is found again by its tag, so exporting twice leaves one run for each release. One that was killed before its last
tag is removed and made again. The package is imported when it is asked for.
"""

import importlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ai_assets.evaluation.scoring import Score
from ai_assets.run.errors import MlflowMissing, MlflowRefused, NoReleaseYet
from ai_assets.run.evaluated import ReleaseScores, scores_of_releases
from ai_assets.signoff.card_markdown import card_markdown
from ai_assets.signoff.release_cards import KeptCard, ReleaseCard, card_of
from ai_assets.storage.stores import Stores

if TYPE_CHECKING:
    from mlflow import MlflowClient

RELEASE, COMPLETE = "ai_assets.release", "ai_assets.complete"
MOST_RELEASES = 1_000
LONGEST_PARAM = 500
RETRIES = 2
"""Where a server does not answer; MLflow itself goes on for minutes."""
_NOT_IN_A_NAME = re.compile(r"[^\w.\- /:]")


@dataclass(frozen=True, kw_only=True)
class MlflowExport:
    experiment: str
    address: str
    """Of the tracking server or store, as MLflow names it."""
    made: tuple[int, ...]
    """Releases whose runs were made now."""
    kept: tuple[int, ...]
    """Those whose runs were there."""


def export_releases(stores: Stores, collection: str, to: str) -> MlflowExport:
    """`to`: a tracking URI, or a folder, in which a database and the artifacts are then."""
    with stores.state.read() as connection:
        releases = scores_of_releases(connection, collection, MOST_RELEASES)
    if not releases:
        raise NoReleaseYet(collection)
    address, artifacts = _place(to)
    mlflow = _mlflow()
    experiment = f"ai-assets/{collection}"
    made: list[int] = []
    kept: list[int] = []
    try:
        client = mlflow.MlflowClient(tracking_uri=address)
        found = client.get_experiment_by_name(experiment)
        place = found.experiment_id if found else client.create_experiment(experiment, artifact_location=artifacts)
        for release in releases:
            card = card_of(stores, collection, release.release)
            done = _made(client, place, release, card)
            (made if done else kept).append(release.release)
    except ImportError as error:
        raise MlflowMissing(error.name) from error
    except (mlflow.exceptions.MlflowException, sa.exc.SQLAlchemyError, OSError) as error:
        raise MlflowRefused(error) from error
    return MlflowExport(experiment=experiment, address=address, made=tuple(made), kept=tuple(kept))


def _place(to: str) -> tuple[str, str | None]:
    if "://" in to or to in ("databricks", "uc"):
        return to, None
    folder = Path(to).expanduser().resolve()
    try:
        (folder / "artifacts").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MlflowRefused(error) from error
    return f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()


def _mlflow() -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        found = importlib.import_module("mlflow")
        settings = importlib.import_module("mlflow.environment_variables")
    except ImportError as error:
        raise MlflowMissing(error.name) from error
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if not settings.MLFLOW_HTTP_REQUEST_MAX_RETRIES.is_set():
        settings.MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(RETRIES)
    return found


def _made(client: "MlflowClient", experiment: str, release: ReleaseScores, kept: KeptCard) -> bool:
    """Whether its run was not there."""
    from mlflow.entities import Metric, Param

    card = kept.card
    key = f"{card.collection}/{card.release}/{card.digest}"
    for run in client.search_runs([experiment], f"tags.`{RELEASE}` = '{key}'"):
        if run.data.tags.get(COMPLETE) == "yes":
            return False
        client.delete_run(run.info.run_id)
    at = int(datetime.fromisoformat(card.published_at).timestamp() * 1000)
    run = client.create_run(experiment, at, {RELEASE: key}, f"{card.collection} release {card.release}")
    metrics = [Metric(name, value, at, card.release) for name, value in metrics_of(release, card)]
    params = [Param(name, value) for name, value in params_of(card).items()]
    client.log_batch(run.info.run_id, metrics=metrics, params=params)
    client.log_text(run.info.run_id, kept.text, "card.json")
    client.log_text(run.info.run_id, card_markdown(kept), "card.md")
    client.set_tag(run.info.run_id, COMPLETE, "yes")
    client.set_terminated(run.info.run_id, "FINISHED", at)
    return True


def metrics_of(release: ReleaseScores, card: ReleaseCard) -> Iterator[tuple[str, float]]:
    """Scores over the corpus, with `.low`, `.high` and `.n`; slices, and what it cost."""
    for score in release.scores:
        if score.value is None:
            continue
        name = metric_name(score)
        yield name, score.value
        yield f"{name}.n", float(score.n)
        if score.interval is not None:
            yield f"{name}.low", score.interval.low
            yield f"{name}.high", score.interval.high
    newest = max(card.partitions.values(), key=lambda part: part.requested_at or "", default=None)
    for each in newest.slices if newest else ():
        yield _name(f"slice/{each.slice}"), each.value
        yield _name(f"slice/{each.slice}.n"), float(each.n)
    costs = [part.cost_usd for part in card.partitions.values() if part.cost_usd is not None]
    if costs:
        yield "cost_usd", sum(costs)
    yield "documents", float(card.documents)


def params_of(card: ReleaseCard) -> Mapping[str, str]:
    found = {
        "collection": card.collection, "release": str(card.release), "digest": card.digest,
        "embeddings": card.embeddings, "searched_by": card.searched_by, "partitions": str(len(card.partitions)),
    }  # fmt: skip
    answers = [each for part in card.partitions.values() for each in part.answers]
    for stage in dict.fromkeys(each.stage for each in answers):
        mine = [each for each in answers if each.stage == stage]
        found[f"{stage}.model"] = ", ".join(sorted({each.model for each in mine}))
        if prompts := sorted({each.prompt for each in mine if each.prompt}):
            found[f"{stage}.prompt"] = ", ".join(prompts)
    return {_name(name): value[:LONGEST_PARAM] for name, value in found.items()}


def metric_name(score: Score) -> str:
    return _name(f"{score.stage}/{score.metric}" if score.stage else score.metric)


def _name(text: str) -> str:
    """As MLflow takes names: `recall@5` is `recall_at_5`."""
    return _NOT_IN_A_NAME.sub("_", text.replace("@", "_at_"))[:240]
