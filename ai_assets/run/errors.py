"""Errors of a run. They hang below `UserError`, but for the last three.

InputMissing           a dataset is asked for before what it is made from exists
InputStale             datasets of a partition do not belong together
ExampleUnreadable      a document that a prompt shows as an example is not there, or has no text
TooManyWithoutVectors  more documents are refused by the model than may be released without vectors
EmbedderLost           what a release was embedded by is not there any more
RerankerLost           what answers are reranked by is not there, or does not answer
EmbeddingUnknown       a search by an embedding that the live release does not have
ContractUndeclarable   what is declared of the contract cannot follow on what is published
MlflowMissing, MlflowRefused, NoReleaseYet  an export to MLflow without its package, that it did not take, of nothing
StageWithoutRoute      a stage in a process pool asks a model
StageProcessDied       the process of a `cpu` stage ended
RunStopped             a partition that is under way is to end now
WorkerProcessBroke     a bug in a process of a run
PartitionsFailed       at the end of a run: which partitions failed, and why
"""

from collections.abc import Mapping, Sequence
from itertools import islice

from ai_assets.base.errors import AiAssetsError, UserError
from ai_assets.base.plural import plural


class InputMissing(UserError):
    def __init__(self, collection: str, asset: str, partition: str, needed: str) -> None:
        super().__init__(
            f"{collection}/{asset} of {partition} is made from {collection}/{needed}, which does not exist yet "
            f"for that partition. Materialize {needed} first: ai-assets run {collection} --partition {partition}"
        )


class InputStale(UserError):
    def __init__(self, collection: str, asset: str, partition: str, needed: str) -> None:
        super().__init__(
            f"{collection}/{asset} of {partition} was made from an earlier {needed} than there is now. "
            f"Bring the partition up to date first: ai-assets run {collection} --partition {partition}"
        )


class ExampleUnreadable(UserError):
    def __init__(self, collection: str, stage: str, document: str, found: str) -> None:
        super().__init__(
            f"Stage '{stage}' of {collection} shows '{document}' as an example, but {found}. "
            f"Bring it back, or take it out of the stage's 'examples' in collections/{collection}/defs.yaml."
        )


class ContractUndeclarable(UserError):
    def __init__(self, collection: str, why: str) -> None:
        super().__init__(
            f"{collection} is not run, because what comes of it could not be published. Its contract: {why}. "
            f"See: ai-assets contract {collection}"
        )


class TooManyWithoutVectors(UserError):
    def __init__(
        self,
        collection: str,
        partition: str,
        reasons: Mapping[str, str],
        *,
        documents: int,
        allowed: int,
        share: float,
        declared: str,
    ) -> None:
        shown = "; ".join(f"'{name}' ({why})" for name, why in islice(reasons.items(), 3))
        more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        super().__init__(
            f"The model embeds {len(reasons)} of the {plural(documents, 'document')} "
            f"of {partition} not, or not whole, and "
            f"{allowed} may be without vectors ({declared}: {share:g}): {shown}{more}. Fix the "
            "cause, leave the documents out with source.exclude, or allow more in "
            f"collections/{collection}/defs.yaml, and run again: ai-assets run {collection} --partition {partition}; "
            "what was embedded is in the ledger and costs nothing."
        )


class EmbedderLost(UserError):
    def __init__(self, collection: str, made_by: str, found: str) -> None:
        super().__init__(
            f"The release of {collection} was embedded by {made_by}, and questions to it must be too, but {found}. "
            f"Bring it back, or embed the collection again: ai-assets run {collection}; then have it signed and "
            "publish."
        )


class RerankerLost(UserError):
    def __init__(self, collection: str, model: str, found: str) -> None:
        super().__init__(
            f"Answers of {collection} are reranked by {model}, as they were when they were judged, but "
            f"{found.rstrip('.')}. Bring it back, or take 'rerank' out of defs.yaml or name another one: ai-assets run "
            f"{collection}; then have it signed and publish."
        )


class EmbeddingUnknown(UserError):
    def __init__(self, collection: str, release: int, name: str, known: Sequence[str]) -> None:
        found = f"its further embeddings are {', '.join(known)}" if known else "it has one embedding, without a name"
        super().__init__(
            f"Release {release} of {collection} has no embedding '{name}': {found}. A new one is declared under "
            f"'embeddings' in defs.yaml, and is searched once it is published: ai-assets run {collection}"
        )


class NothingTouched(UserError):
    def __init__(self, collection: str, by: str, value: str, hint: str) -> None:
        super().__init__(f"No row and no release of {collection} comes from the {by} '{value}'{hint}")


class StageWithoutRoute(UserError):
    def __init__(self, stage: str) -> None:
        super().__init__(
            f"Stage '{stage}' asks a model, and no route is declared for it. In defs.yaml write: route: NAME, with a "
            "route or an endpoint of inference.yaml."
        )


class StageProcessDied(UserError):
    def __init__(self, stage: str, first: str, last: str) -> None:
        super().__init__(
            f"The process that runs the stage '{stage}' died at one of the documents from {first} to {last}: out of "
            "memory, or a library that crashed. Other partitions go on. Try the function on these documents alone."
        )


class RunStopped(AiAssetsError):
    """Raised where a partition says how far it is, once its run has been interrupted."""


class WorkerProcessBroke(AiAssetsError):
    """Ends the run, as the same bug in its own process does. `trace` is that of the other process."""

    def __init__(self, partition: str, trace: str) -> None:
        super().__init__(f"A further process of the run failed while it computed {partition}:\n\n{trace}")


class PartitionsFailed(AiAssetsError):
    """Raised once, at the end of a run, for all partitions that failed; the others are done."""

    def __init__(self, collection: str, errors: Mapping[str, str], total: int) -> None:
        self.errors = dict(errors)
        alike: dict[str, list[str]] = {}
        for partition, error in errors.items():
            alike.setdefault(error, []).append(partition)
        shown = "\n".join(f"  {_span(partitions)}: {error}" for error, partitions in alike.items())
        super().__init__(f"{len(errors)} of {plural(total, 'partition')} of {collection} failed:\n{shown}")


def _span(partitions: Sequence[str]) -> str:
    """Few by name, many by number."""
    if len(partitions) <= 3:
        return ", ".join(partitions)
    return f"{partitions[0]} to {partitions[-1]} ({plural(len(partitions), 'partition')})"


class MlflowMissing(UserError):
    def __init__(self, module: str | None) -> None:
        also = "" if module in (None, "mlflow") else f" {module}"
        super().__init__(
            f"Exporting to MLflow takes the package mlflow-skinny{f' with{also}' if also else ''}, which is missing: "
            f"pip install mlflow-skinny{also}"
        )


class MlflowRefused(UserError):
    def __init__(self, error: Exception) -> None:
        said = " ".join(str(error).split())[:300]
        super().__init__(f"MLflow did not take the export: {said}. Correct that, and export again: nothing is doubled.")


class NoReleaseYet(UserError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} has no release yet, and a run of MLflow is one release. Publish first: ai-assets publish {name}"
        )
