"""The part of the error tree that knows documents; it hangs below `UserError` of `ai_assets/base/errors.py`.

UserError
  DeclarationInvalid
    CollectionInvalid        defs.yaml or a file it names is wrong: file, line, what to write
  CollectionUnknown          no such collection
  CollectionExists, CollectionNameInvalid, CollectionNameTaken, NothingToScaffold   `ai-assets new` refuses
  PartitionUnknown           no such partition, or a range the wrong way round
  GoldenError                a golden file is wrong: file, line, what was found
  InputMissing               a dataset is asked for before what it is made from exists
  InputStale                 datasets of a partition do not belong together
  ExampleUnreadable          a document that a prompt shows as an example is not there, or has no text
  EmbeddingFailed            passages have no vector for a reason that is not theirs, so their partition has none
  TooManyWithoutVectors      more documents are refused by the model than may be released without vectors
  QueryNotEmbedded           a question has no vector, so it cannot be searched for
  VectorUnusable             the model's vectors are not what is declared
  EmbedderLost               what a release was embedded by is not there any more
  EmbeddingsMixed            a release would hold vectors that cannot be compared
  ChecksAlone                a check is asked for without its asset
  QualityFailed, GateFailed, CheckFailed   a blocking check refused a partition
    AnswersMissing           a stage has no usable answer for too many documents
  ExtensionUnusable          a metric, gate, check, target or sink of one's own cannot be found or is none
  ScaffoldRefused            a file that would be written is there already, or cannot be named so
  OwnCodeFailed              one of them raised, or gave back what it must not
  VerdictUnreadable          a gate's verdict that a newer version wrote
  TargetsFailed              a target does not serve the live release
  SignedAssetWrong           an asset that cannot be signed: its rows, its key, its rules
  SignedAssetTaken           two assets, or an asset and a collection, under one name
  SignedAssetElsewhere       a command that only the project of a signed asset can do
  NothingApproved            publication without approval
  ApprovalInsufficient       what is marked approved is not, by the audit chain and the present rules
  CandidateChanged           what would be published is not what was approved
  PublicationOvertaken       the live release changed while another was being prepared
  RequestUnknown             no open request to decide on
  DecisionRefused            this person may not decide this
  DecisionTooLate            what was seen does not wait any more, or is not what waits
  PersonNameInvalid, PersonUnknown   who is named cannot be, or is not known
  MomentInvalid              what should be a date or a time is none
  CorrectionRefused, NoteRefused   what cannot be said about a document
  NothingToAskAgain          no document without a result that another question could help
  ExportUnreadable           a file that is no export of the audit chain
  FileUnwritable             what a command should write to cannot be
  ReleaseUnknown             no such release
  NothingLive                a question to the live release before there is one
  DocumentUnknown            no such document
  IndexLost                  the live release cannot be searched; publishing makes its index again
  IndexAltered               the files of the live index are not those that were published
  ReleaseAltered             a release, or the pointer to it, is not what the audit chain says was published
  AuditBroken                the audit chain does not verify
  ChainRolledBack, ChainRewritten   the audit chain is older than, or other than, a signed checkpoint says
  CheckpointUntrusted, NoteUnreadable   a checkpoint that nobody vouches for, or that is none
  NothingRecorded, NothingToExtend   a checkpoint of a chain without records, or of more than there are
  NotProvable                a release or document of which not all that a proof takes is there
  NoCheckpointThere          a place to verify against that holds none of this chain
  WitnessFailed              somebody who holds checkpoints did not take one, or gives none back
  SignatureInvalid           a signature is not of this content, or by a key that does not count
  KeyNotHeld, KeysMissing, KeyUnusable   what is to be signed cannot be, here
  KeyUnknown, KeyChangeRefused   a key is not replaced or revoked
  PersonalKeyUnusable, OwnKeyRefused   a person's own key is none, does not sign, or is not added
  SignInRefused, SignInThrottled   who knocks is not let in, or not yet
  ProviderRefused            single sign-on did not say who this is
  PasswordUnsuitable         a chosen password is too short or too long
  PasswordMissing            a decision on the command line without one
  NobodyKnown                a decision before anybody may decide
  PersonKnown                somebody is added twice
  PersonDisabled             a disabled person is given something
  RoleUnknown                a role that is none
  TokenRefused, TokenUnknown a token that starts no run; one that does not exist
  LauncherUnclear            a token and a name of different people
  LaunchRefused              this person may not start this
  NothingToRun, PartitionsUnnamed   nothing is due; partitions to run again without their names
  StartedBefore              a form that starts runs was sent twice
  PriceBusy                  other prices are being worked out
PartitionsFailed             at the end of a run: which partitions failed, and why

What only the desk's pages say is beside what raises it, in `ai_assets/desk/`.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from ai_assets.base.errors import AiAssetsError, DeclarationInvalid, UserError
from ai_assets.inference.records import RETRYABLE


class CollectionInvalid(DeclarationInvalid):
    """`defs.yaml`, or a file it names, is wrong."""


class CollectionUnknown(UserError):
    def __init__(self, name: str, known: Sequence[str], folder: Path) -> None:
        found = ", ".join(known) or "none"
        super().__init__(
            f"There is no collection '{name}' in {folder}, and no definitions recorded one (found: {found}). "
            f"Make one with: ai-assets new {name} --from FOLDER"
        )


class CollectionExists(UserError):
    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists already; nothing was changed. Edit it, or choose another name.")


class CollectionNameTaken(UserError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"'{name}' cannot name a collection: the assets, the job and the folder of the lake with that name are "
            "those of the cost warehouse. Choose another name."
        )


class CollectionElsewhere(UserError):
    def __init__(self, name: str, there: Path, here: Path, home: Path) -> None:
        super().__init__(
            f"Two collections are called '{name}' in the home {home}: the one in {there}, and the one in {here}. A "
            "name means one collection in all projects that share a home. Rename one of the folders, or give one "
            "of the projects a home of its own (AI_ASSETS_HOME)."
        )


class CollectionNameInvalid(UserError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"'{name}' cannot name a collection: use lower-case letters, digits and single underscores, letter first, "
            "and no word that Python or Dagster keeps for itself (such as 'class' or 'input')."
        )


class NothingToScaffold(UserError):
    def __init__(self, source: str, files: int) -> None:
        super().__init__(
            f"{source} holds no document this can read ({files} files found; "
            "readable are txt, md, html, pdf, docx, csv, jsonl and parquet)."
        )


class PartitionUnknown(UserError):
    def __init__(self, collection: str, key: str, by: str, keys: Sequence[str]) -> None:
        span = f"they go from {keys[0]} to {keys[-1]}" if keys else "the source has none yet"
        super().__init__(f"'{key}' is no partition of {collection} (by {by}: {span}).")


class GoldenError(UserError):
    def __init__(self, path: Path, line: int | None, problem: str) -> None:
        super().__init__(f"{path}{f':{line}' if line else ''}: {problem}")


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


class EmbeddingFailed(UserError):
    """`said` begins with the class of the error."""

    def __init__(self, collection: str, partition: str, document: str, said: str, others: int) -> None:
        self.passes = said.partition(":")[0] in RETRYABLE
        more = f" (and {others} more {'text' if others == 1 else 'texts'} of this partition)" if others else ""
        super().__init__(
            f"A text of document '{document}'{more} could not be embedded: {said.rstrip('.')}. This is not about the "
            "text alone, so nothing was made of this partition. Fix the cause, or leave the document out with "
            f"source.exclude, and run again: ai-assets run {collection} --partition {partition}; what was "
            "embedded is in the ledger and costs nothing."
        )


class TooManyWithoutVectors(UserError):
    def __init__(
        self, collection: str, partition: str, reasons: Mapping[str, str], *, documents: int, allowed: int, share: float
    ) -> None:
        shown = "; ".join(f"'{name}' ({why})" for name, why in islice(reasons.items(), 3))
        more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        super().__init__(
            f"The model embeds {len(reasons)} of the {documents} documents of {partition} not, or not whole, and "
            f"{allowed} may be without vectors (embedding.without_vectors_at_most: {share:g}): {shown}{more}. Fix the "
            "cause, leave the documents out with source.exclude, or allow more in "
            f"collections/{collection}/defs.yaml, and run again: ai-assets run {collection} --partition {partition}; "
            "what was embedded is in the ledger and costs nothing."
        )


class QueryNotEmbedded(UserError):
    def __init__(self, collection: str, query: str, said: str) -> None:
        self.passes = said.partition(":")[0] in RETRYABLE
        shown = query if len(query) <= 80 else query[:80] + "…"
        super().__init__(
            f"The query '{shown}' could not be embedded: {said.rstrip('.')}. Try again; if it stays so, look at what "
            f"was asked (ai-assets ledger list --collection {collection}) and at the route in inference.yaml."
        )


class VectorUnusable(UserError):
    def __init__(self, collection: str, endpoint: str, model: str, *, found: int, declared: int) -> None:
        super().__init__(
            f"Endpoint '{endpoint}' (model {model}) gave a vector of {found} numbers, and "
            f"collections/{collection}/defs.yaml declares embedding.dimensions: {declared}. Declare what the model "
            "gives or, where it can give shorter vectors when asked, add shorten: true. What was embedded is in the "
            "ledger."
        )


class EmbedderLost(UserError):
    def __init__(self, collection: str, made_by: str, found: str) -> None:
        super().__init__(
            f"The release of {collection} was embedded by {made_by}, and questions to it must be too, but {found}. "
            f"Bring it back, or embed the collection again: ai-assets run {collection}; then have it signed and "
            "publish."
        )


class EmbeddingsMixed(UserError):
    def __init__(self, collection: str, made_by: str, others: Sequence[str]) -> None:
        shown = ", ".join(others[:10]) + (f" and {len(others) - 10} more" if len(others) > 10 else "")
        super().__init__(
            f"{collection} is now embedded by {made_by}, and a release cannot hold vectors of two kinds, because they "
            f"cannot be compared. Not published. Still embedded by another: {shown}. Run them, have them signed, and "
            f"all are published together: ai-assets run {collection}; ai-assets signoff approve {collection} --all; "
            f"ai-assets publish {collection}"
        )


class ChecksAlone(UserError):
    def __init__(self, collection: str) -> None:
        super().__init__(
            f"Checks of {collection} are made together with their asset, partition by partition. "
            f"Press Materialize on the asset and choose partitions, or: ai-assets run {collection} --all"
        )


class QualityFailed(UserError):
    def __init__(self, asset: str, failures: Sequence[str]) -> None:
        super().__init__(f"the quality suite of {asset} refuses it: {'; '.join(failures)}")


class GateFailed(UserError):
    def __init__(self, failures: Sequence[str]) -> None:
        super().__init__(f"{'; '.join(failures)}. No release candidate was made.")


class AnswersMissing(GateFailed):
    """`next_at`: when the next run asks again by itself."""

    def __init__(
        self, collection: str, partition: str, failures: Sequence[str], stage: str, next_at: str | None
    ) -> None:
        again = (
            f"The next run after {next_at} asks again"
            if next_at
            else f"Nothing asks again by itself (what it takes: ai-assets status {collection})"
        )
        super().__init__(failures)
        self.args = (
            f"{self} {again}; at once: ai-assets run {collection} --partition {partition}. To make a candidate all the "
            f"same, declare under gates: {{metric: answered_share, stage: {stage}, min: 0}}.",
        )


class CheckFailed(UserError):
    def __init__(self, name: str, asset: str, failures: Sequence[str]) -> None:
        super().__init__(f"the check {name} of {asset} refuses it: {'; '.join(failures)}")


class ExtensionUnusable(UserError):
    def __init__(self, kind: str, reference: str, found: str) -> None:
        super().__init__(f"the {kind} '{reference}' cannot be used: {found}")
        self.found = found


class ScaffoldRefused(UserError):
    def __init__(self, name: str, found: str) -> None:
        super().__init__(f"'{name}' cannot be scaffolded: {found}.")


class OwnCodeFailed(UserError):
    def __init__(self, kind: str, reference: str, found: str) -> None:
        super().__init__(f"the {kind} {reference} failed: {found}. It is the project's own code; fix it there.")


class VerdictUnreadable(UserError):
    def __init__(self, gate: str, found: object, known: int) -> None:
        super().__init__(
            f"The verdict of the gate '{gate}' has format {found}, and this version reads up to {known}. A newer "
            "ai-assets wrote it: use that one."
        )


class TargetsFailed(UserError):
    def __init__(self, collection: str, release: int, failures: Sequence[str]) -> None:
        super().__init__(
            f"Release {release} of {collection} is live, and not everywhere: {'; '.join(failures)}. It is tried again "
            f"with growing pauses; at once: ai-assets publish {collection}"
        )


class SignedAssetWrong(UserError):
    def __init__(self, asset: str, found: str) -> None:
        super().__init__(f"The asset {asset} cannot be signed: {found}.")


class SignedAssetTaken(UserError):
    def __init__(self, name: str, asset: str, other: str) -> None:
        super().__init__(
            f"The asset {asset} cannot be signed under the name '{name}': that is {other} already. Give it another "
            "one: ai_assets.signed(asset, name=...)"
        )


class SignedAssetElsewhere(UserError):
    def __init__(self, name: str, asset: str) -> None:
        super().__init__(
            f"'{name}' is the signed asset {asset} of a Dagster project. Its rows are made and published there: "
            f"materialize {asset}, signed/{name}_candidate or signed/{name} in Dagster."
        )


class NothingApproved(UserError):
    def __init__(self, collection: str, waiting: int) -> None:
        if waiting:
            noun = "partition waits" if waiting == 1 else "partitions wait"
            found = f"{waiting} {noun} for sign-off in {collection}"
            remedy = (
                f"Look with: ai-assets signoff list {collection}; then: ai-assets signoff approve {collection} --all"
            )
        else:
            found = f"no candidate of {collection} waits, and none is approved"
            remedy = f"Make candidates with: ai-assets run {collection} --all"
        super().__init__(f"Nothing to publish: {found}. {remedy}")


class ApprovalInsufficient(UserError):
    def __init__(self, collection: str, partition: str, approved: str, found: str) -> None:
        super().__init__(
            f"{collection} {partition} is marked approved ({approved[:12]}), but {found}. Nothing was published. "
            f"See: ai-assets signoff show {collection} {partition}; ai-assets audit verify"
        )


class CandidateChanged(UserError):
    def __init__(self, collection: str, partition: str, approved: str, found: str) -> None:
        super().__init__(
            f"{collection} {partition}: approved was {approved[:12]}, but {found}. Not published. "
            f"Run the partition again and have it signed: ai-assets run {collection} --partition {partition}"
        )


class PublicationOvertaken(UserError):
    def __init__(self, collection: str, live: int | None) -> None:
        found = f"release {live} of {collection} became live" if live else f"{collection} lost its live release"
        super().__init__(
            f"While this publication was being prepared, {found}; nothing was published. "
            f"Look at what is live now, then: ai-assets publish {collection}"
        )


class RequestUnknown(UserError):
    def __init__(self, collection: str, partition: str, status: str | None) -> None:
        found = f"its last request is {status}" if status else "it never had one: has it been run, and did it pass?"
        super().__init__(
            f"{collection} {partition} has no open request for sign-off ({found}). See: ai-assets status {collection}"
        )


class DecisionRefused(UserError):
    def __init__(self, who: str, problem: str) -> None:
        super().__init__(f"'{who}' cannot decide this: {problem}.")


class DecisionTooLate(UserError):
    """Somebody else was first, or a newer candidate is."""

    def __init__(self, collection: str, partition: str, found: str) -> None:
        super().__init__(
            f"{collection} {partition} does not wait for this decision any more: {found}. Nothing was recorded. "
            f"See: ai-assets signoff show {collection} {partition}"
        )


class CorrectionRefused(UserError):
    """What a label cannot be corrected to, or where there is none."""

    def __init__(self, document: str, problem: str) -> None:
        super().__init__(f"The label of '{document}' was not corrected: {problem}")


class NothingToAskAgain(UserError):
    """`error` is the class of what was found, None where nothing is without a result."""

    def __init__(self, collection: str, document: str | None, error: str | None) -> None:
        what = f"document '{document}'" if document is not None else collection
        found = {
            None: f"{what} has nothing without a result. See: ai-assets status {collection}",
            "invalid_output": f"the answer for {what} is in the ledger, and the same question gets it again. "
            "Edit the prompt or the schema, or correct the label on the desk.",
            "held": f"the call for {what} may have been billed, and waits for a person. Say what became of it: "
            "ai-assets ledger ambiguous; then: ai-assets ledger resolve CALL --billed or --not-billed",
        }.get(error, f"{what} has nothing to ask again")
        super().__init__(f"Nothing is asked again: {found}")


class NoteRefused(UserError):
    def __init__(self, document_id: str, problem: str) -> None:
        super().__init__(f"Nothing was noted on '{document_id}': {problem}.")


class PersonNameInvalid(UserError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"'{name}' cannot be a person's name: use letters, digits and . _ @ + -, at most 120 of them, a letter or "
            "digit first."
        )


class PersonUnknown(UserError):
    def __init__(self, name: str, known: Sequence[str]) -> None:
        found = f"known are {', '.join(known[:20])}" if known else "nobody is known yet"
        super().__init__(f"There is no person '{name}' ({found}). Add them: ai-assets reviewers add {name}")


class MomentInvalid(UserError):
    def __init__(self, found: str) -> None:
        super().__init__(
            f"'{found}' is not a valid date or time: write a date (2026-11-21), or date and time (2026-11-21T14:30, "
            "in UTC unless a zone is given)."
        )


class ExportUnreadable(UserError):
    def __init__(self, path: Path, found: str) -> None:
        super().__init__(f"{path} is no export of an audit chain: {found}. Make one with: ai-assets audit export")


class FileUnwritable(UserError):
    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path} cannot be written ({error.strerror}). Name another file, or make its folder first.")


class ReleaseUnknown(UserError):
    def __init__(self, collection: str, number: int, known: Sequence[int]) -> None:
        found = (
            f"they are {known[0]} to {known[-1]}"
            if len(known) > 1
            else "it has one only"
            if known
            else "it has none yet"
        )
        super().__init__(f"{collection} has no release {number} ({found}). See: ai-assets releases list {collection}")


class ReleasePruned(UserError):
    def __init__(self, collection: str, release: int, at: str) -> None:
        super().__init__(
            f"Release {release} of {collection} cannot be rolled back to: its files were removed by retention at "
            f"{at[:16]} (UTC). Those that can: ai-assets releases list {collection}. A backup of before then has it: "
            "ai-assets restore FROM --to ANOTHER-HOME"
        )


class HoldRefused(UserError):
    def __init__(self, collection: str, release: int | None, found: str) -> None:
        what = f"release {release} of {collection}" if release is not None else f"all of {collection}"
        super().__init__(f"The legal hold on {what} was not changed: {found}. See: ai-assets retention holds")


class NothingLive(UserError):
    def __init__(self, collection: str) -> None:
        super().__init__(
            f"{collection} has no live release yet. Sign what waits (ai-assets signoff list {collection}), "
            f"then: ai-assets publish {collection}"
        )


class IndexLost(UserError):
    def __init__(self, collection: str, release: int) -> None:
        super().__init__(
            f"The search index of release {release} of {collection} is gone. It is made from the release's files; "
            f"make it again with: ai-assets publish {collection}"
        )


class IndexAltered(UserError):
    def __init__(self, collection: str, release: int, found: str) -> None:
        super().__init__(
            f"The search index of release {release} of {collection} was altered: {found}. It is not searched. "
            f"Make it again from the release's files: ai-assets publish {collection}"
        )


class ReleaseAltered(UserError):
    """`told` is the release that the chain says is live, where the pointer names another."""

    def __init__(self, name: str, found: str, collection: str, told: int | None = None) -> None:
        self.told = told
        remedy = (
            f"Point to release {told} again: ai-assets releases rollback {collection} --to {told}"
            if told
            else "Bring the state store back from a backup, or go to a release that holds: "
            f"ai-assets releases rollback {collection} --to N"
        )
        super().__init__(
            f"{name} is not what was published: {found}. Nothing of it is served. {remedy}. What else was altered: "
            "ai-assets audit verify"
        )


class DocumentUnknown(UserError):
    def __init__(self, collection: str, document_id: str, hint: str) -> None:
        super().__init__(f"{collection} has no document '{document_id}'{hint}")


class StageAsksNobody(UserError):
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


class PartitionsFailed(AiAssetsError):
    """Raised once, at the end of a run, for all partitions that failed; the others are done."""

    def __init__(self, collection: str, errors: Mapping[str, str], total: int) -> None:
        self.errors = dict(errors)
        alike: dict[str, list[str]] = {}
        for partition, error in errors.items():
            alike.setdefault(error, []).append(partition)
        shown = "\n".join(f"  {_span(partitions)}: {error}" for error, partitions in alike.items())
        super().__init__(f"{len(errors)} of {total} partitions of {collection} failed:\n{shown}")


def _span(partitions: Sequence[str]) -> str:
    """Few by name, many by number."""
    if len(partitions) <= 3:
        return ", ".join(partitions)
    return f"{partitions[0]} to {partitions[-1]} ({len(partitions)} partitions)"


class AuditBroken(UserError):
    def __init__(self, record: str, problem: str) -> None:
        super().__init__(f"The audit trail does not verify. First bad record: {record}: {problem}")


class SignatureInvalid(UserError):
    """Why a signature does not count; whoever knows the record says of which."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"The signature does not count: {problem}.")


class KeyNotHeld(UserError):
    def __init__(self, kind: str, why: str) -> None:
        super().__init__(
            f"This takes the {kind} key, and it is not here: {why}. "
            "Decisions are made at the desk or with the commands of people, not in runs."
        )


class KeysMissing(UserError):
    def __init__(self, trust: Path, found: str) -> None:
        super().__init__(
            f"{trust} is missing: {found}. Put it back, from a backup or from where the keys were made "
            "(`ai-assets keys new FOLDER` makes a pair for a new installation). Nothing is signed until then."
        )


class KeyUnknown(UserError):
    def __init__(self, key_id: str, known: Sequence[str]) -> None:
        super().__init__(f"There is no key '{key_id}'. Known are: {', '.join(known)} (ai-assets keys list).")


class PersonalKeyUnusable(UserError):
    def __init__(self, found: str) -> None:
        super().__init__(f"That key cannot be used: {found}.")


class OwnKeyRefused(UserError):
    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"The key was not added for {name}: {problem}.")


class KeyChangeRefused(UserError):
    def __init__(self, kind: str, found: str) -> None:
        super().__init__(f"The {kind} key was not changed: {found}.")


class KeyUnusable(UserError):
    def __init__(self, where: object, found: str) -> None:
        super().__init__(f"The key {where} cannot be used: {found}.")


class NoteUnreadable(UserError):
    def __init__(self, found: str, where: object = "The text") -> None:
        self.found = found
        super().__init__(f"{where} is no checkpoint: {found}. One looks as `ai-assets audit checkpoint` prints it.")


class ChainRolledBack(UserError):
    def __init__(self, found: int, noted: int, where: object) -> None:
        super().__init__(
            f"The state store holds {found} audit records, and {where} holds a signed checkpoint of {noted}: "
            f"{_records(found + 1, noted)} cut off, or an older store was put back. Nothing was changed. Bring back "
            "the newer store; where the older one was restored on purpose, record that: ai-assets audit accept-restored"
        )


class ChainRewritten(UserError):
    """The records from `first` to `last` are not all what a signed checkpoint says they were."""

    def __init__(self, first: int, last: int, where: object) -> None:
        self.first, self.last = first, last
        super().__init__(
            f"The audit chain is not the one of which {where} holds a signed checkpoint of {last} records: among "
            f"{_numbers(first, last)} at least one is another. Nothing was changed. See what does not verify with: "
            "ai-assets audit verify; and bring back the right store. Where an older one was restored on purpose, "
            "record that: ai-assets audit accept-restored"
        )


class CheckpointUntrusted(UserError):
    def __init__(self, where: object, problem: str) -> None:
        super().__init__(
            f"The checkpoint in {where} does not count: {problem}. Either it is not of this installation, or the state "
            "store is older than the key that signed it. Nothing was changed. See the keys: ai-assets keys list"
        )


class NothingRecorded(UserError):
    def __init__(self) -> None:
        super().__init__("The audit chain has no record yet, so there is nothing to make a checkpoint of.")


class NothingToExtend(UserError):
    def __init__(self, since: int, size: int) -> None:
        super().__init__(f"The audit chain has {size} records, and so extends no checkpoint of {since}.")


class NotProvable(UserError):
    def __init__(self, what: str, found: str) -> None:
        super().__init__(f"{what} cannot be proved: {found}.")


class NoCheckpointThere(UserError):
    def __init__(self, place: str, chain: str | None, others: Sequence[str]) -> None:
        found = f"only of {', '.join(others)}" if others else "none at all"
        super().__init__(
            f"{place} holds no checkpoint of {chain or 'this chain, which has no keys yet'} ({found}), so it proves "
            "nothing. Name the place that a witness writes to (see: ai-assets audit checkpoint)."
        )


class WitnessFailed(UserError):
    """`found` repeats no secret: it is kept in the state store."""

    def __init__(self, witness: str, found: str) -> None:
        self.found = found
        super().__init__(f"The witness '{witness}' did not take the checkpoint: {found}.")


class SignInRefused(UserError):
    """Says the same whatever was wrong."""

    def __init__(self) -> None:
        super().__init__("That name and password do not belong to anybody who may sign in. Check both, and try again.")


class SignInThrottled(UserError):
    def __init__(self, wait_s: float) -> None:
        self.wait_s = max(1, math.ceil(wait_s))
        unit = "second" if self.wait_s < 100 else "minute"
        number = self.wait_s if self.wait_s < 100 else math.ceil(self.wait_s / 60)
        super().__init__(
            f"Too many sign-ins failed. Wait {number} {unit}{'s' if number != 1 else ''}, then try again; "
            "trying earlier does not count."
        )


class ProviderRefused(UserError):
    def __init__(self, provider: str, found: str) -> None:
        super().__init__(f"Signing in with {provider} did not work: {found}.")


class PasswordUnsuitable(UserError):
    def __init__(self, found: int, shortest: int, longest: int) -> None:
        super().__init__(f"A password has {shortest} to {longest} characters; this one has {found}.")


class PasswordMissing(UserError):
    def __init__(self, name: str, variable: str) -> None:
        super().__init__(
            f"Deciding as {name} takes their password, and nobody can be asked for it here. "
            f"Set {variable}, or run the command on a terminal."
        )


class NobodyKnown(UserError):
    def __init__(self, name: str) -> None:
        super().__init__(f"Nobody may decide yet. Make yourself known: ai-assets reviewers add {name} --role approver")


class PersonKnown(UserError):
    def __init__(self, name: str, disabled: bool) -> None:
        remedy = f"enable {name}" if disabled else f"grant {name} ROLE COLLECTION, or: password {name}"
        how = "is known already, and disabled" if disabled else "is known already"
        super().__init__(f"{name} {how}; nothing was changed. Use: ai-assets reviewers {remedy}")


class PersonDisabled(UserError):
    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is disabled; nothing was changed. First: ai-assets reviewers enable {name}")


class RoleUnknown(UserError):
    def __init__(self, found: str, hint: str) -> None:
        super().__init__(f"'{found}' is no role{hint}")


class TokenRefused(UserError):
    def __init__(self, found: str) -> None:
        super().__init__(
            f"The token in AI_ASSETS_TOKEN starts nothing: {found}. Make another (ai-assets reviewers token NAME), or "
            "unset the variable. Nothing was started."
        )


class TokenUnknown(UserError):
    def __init__(self, token_id: str) -> None:
        super().__init__(f"There is no token '{token_id[:40]}'. See: ai-assets reviewers tokens")


class LauncherUnclear(UserError):
    def __init__(self, by: str, holder: str) -> None:
        super().__init__(
            f"--by says {by}, and AI_ASSETS_TOKEN is a token of {holder}. Leave one of them out; nothing was started."
        )


class LaunchRefused(UserError):
    def __init__(self, name: str, what: str, role: str, collection: str) -> None:
        super().__init__(
            f"{name} may not {what}: it takes the role {role} in {collection} "
            f"(ai-assets reviewers grant {name} {role} {collection})."
        )


class NothingToRun(UserError):
    def __init__(self, collection: str) -> None:
        super().__init__(f"Nothing of {collection} is due, so nothing was started. Name partitions to run them again.")


class PartitionsUnnamed(UserError):
    def __init__(self, collection: str) -> None:
        super().__init__(f"Running again takes names: say which partitions of {collection}, the first and the last.")


class StartedBefore(UserError):
    def __init__(self, person: str, at: str) -> None:
        super().__init__(f"{person} started this already, at {at[:19]} (UTC); it was not started a second time.")


class PriceBusy(UserError):
    def __init__(self) -> None:
        super().__init__("Other prices are being worked out at the moment. Wait a moment and try again.")


def _numbers(first: int, last: int) -> str:
    return f"record {first}" if first == last else f"records {first} to {last}"


def _records(first: int, last: int) -> str:
    return f"{_numbers(first, last)} {'was' if first == last else 'were'}"
