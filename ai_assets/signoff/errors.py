"""Errors about requests, decisions, people and releases. They hang below `UserError`.

EmbeddingsMixed                     a release would hold vectors that cannot be compared
SearchesMixed                       partitions of a release would be searched otherwise than they were judged
SignedAssetElsewhere                a command that only the project of a signed asset can do
NothingApproved                     publication without approval
ApprovalInsufficient                what is marked approved is not, by the audit chain and the present rules
CandidateChanged                    what would be published is not what was approved
PublicationOvertaken                the live release changed while another was being prepared
RequestUnknown                      no open request to decide on
DecisionRefused                     this person may not decide this
DecisionTooLate                     what was seen does not wait any more, or is not what waits
PersonNameInvalid, PersonUnknown    who is named cannot be, or is not known
MomentInvalid                       what should be a date or a time is none
ClaimRefused, ClaimTaken             who looks at a request stays as it is
CorrectionRefused, NoteRefused      what cannot be said about a document
JudgeUnknown, RatingsUndeclared     no such judge, or one that has no file for what people say
GoldenLabelRefused                  a golden label that cannot be given, or a sample that cannot be drawn
HeldDecisionRefused                 what cannot be decided of a held document
LabelFileRefused                    a file of labels with mistakes, all of them named
CanaryAcceptRefused                 a changed model that cannot be taken as the new baseline
ContractHolds, ContractNotKept      rows that break what readers were promised, and that nobody has waived
CanaryHolds                         rows that a changed model made, and that nobody has accepted or waived
NothingToAskAgain                   no document without a result that another question could help
ReleaseUnknown                      no such release
ReleasePruned                       a release whose files retention removed
ReleaseFilesRemoved                 its documents cannot be shown or compared any more
NothingLive                         a question to the live release before there is one
DocumentUnknown                     no such document
IndexLost                           the live release cannot be searched; publishing makes its index again
IndexAltered                        the files of the live index are not those that were published
IndexRefused                        the index that was to go live fails a gate of the golden queries
IndexMixed                          another process wrote into the index that was being published
ReleaseAltered                      a release, or the pointer to it, is not what the audit chain says was published
CardAltered                         the model card of a release is not the one that was published
PersonalKeyUnusable, OwnKeyRefused  a person's own key is none, does not sign, or is not added
SignInRefused, SignInThrottled      who knocks is not let in, or not yet
PasswordUnsuitable                  a chosen password is too short or too long
RoleUnknown                         a role that is none
TokenRefused, TokenUnknown          a token that starts no run; one that does not exist
"""

import math
from collections.abc import Mapping, Sequence

from ai_assets.base.errors import UserError
from ai_assets.base.plural import plural
from ai_assets.base.yaml_settings import nearest


class EmbeddingsMixed(UserError):
    def __init__(self, collection: str, made_by: str, others: Sequence[str]) -> None:
        shown = ", ".join(others[:10]) + (f" and {len(others) - 10} more" if len(others) > 10 else "")
        super().__init__(
            f"{collection} is now embedded by {made_by}, and all partitions of a release must be, because vectors of "
            f"different models cannot be compared. Not published. Still embedded by another: {shown}. Run them, have "
            "them signed, and "
            f"all are published together: ai-assets run {collection}; ai-assets signoff approve {collection} --all; "
            f"ai-assets publish {collection}"
        )


class SearchesMixed(UserError):
    def __init__(self, collection: str, searches: Mapping[str, Sequence[str]]) -> None:
        def some(names: Sequence[str]) -> str:
            return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

        shown = "; ".join(f"{search}: {some(names)}" for search, names in searches.items())
        super().__init__(
            f"One search answers for all partitions of a release, and those of {collection} were judged with different "
            f"ones ({shown}). Not published. Run them, have them signed, and all are published together: "
            f"ai-assets run {collection}; ai-assets signoff approve {collection} --all; ai-assets publish {collection}"
        )


class SignedAssetElsewhere(UserError):
    def __init__(self, name: str, asset: str) -> None:
        super().__init__(
            f"'{name}' is the signed asset {asset} of a Dagster project. Its rows are made and published there: "
            f"materialize {asset}, signed/{name}_candidate or signed/{name} in Dagster."
        )


class CanaryAcceptRefused(UserError):
    def __init__(self, endpoint: str, problem: str) -> None:
        super().__init__(f"The model of endpoint '{endpoint}' is not accepted: {problem}.")


class CanaryHolds(UserError):
    def __init__(self, collection: str, partition: str, sentence: str) -> None:
        super().__init__(
            f"{collection} {partition} is not published: {sentence}. See: ai-assets canary changes; or make the rows "
            f"again with another model: ai-assets run {collection} --partition {partition}"
        )


class ContractHolds(UserError):
    def __init__(self, collection: str, partition: str, sentence: str, *, otherwise: bool) -> None:
        waived = " It was waived as it was broken then, and not so." if otherwise else ""
        super().__init__(
            f"{collection} {partition} is not published: {sentence}.{waived} Then: ai-assets run {collection} "
            f"--partition {partition}"
        )


class ContractNotKept(UserError):
    def __init__(self, collection: str, contract: str, broken: Mapping[str, Sequence[str]]) -> None:
        names = list(broken)
        shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        super().__init__(
            f"Readers of {collection} would be promised {contract}, and partitions that are live already break it: "
            f"{shown} ({broken[names[0]][0]}). Not published. Run them, have them signed, and all are published "
            f"together: ai-assets run {collection}; ai-assets signoff approve {collection} --all; "
            f"ai-assets publish {collection}"
        )


class NothingApproved(UserError):
    def __init__(self, collection: str, waiting: int) -> None:
        if waiting:
            found = f"{plural(waiting, 'partition waits', 'partitions wait')} for sign-off in {collection}"
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


class JudgeUnknown(UserError):
    """`name` is None where none was named."""

    def __init__(self, collection: str, name: str | None, known: Sequence[str]) -> None:
        if not known:
            said = f"{collection} has no stage of kind 'judge'; declare one (docs/judge.md)"
        elif name is None:
            said = f"{collection} has several judges ({', '.join(known)}); name one with --stage"
        else:
            said = f"{collection} has no judge '{name}'{nearest(name, list(known))}"
        super().__init__(said)


class RatingsUndeclared(UserError):
    def __init__(self, collection: str, stage: str) -> None:
        super().__init__(
            f"Nothing was imported: stage '{stage}' of {collection} names no file for ratings. "
            "Write 'ratings: ratings.jsonl' beside its 'of' in defs.yaml."
        )


class GoldenLabelRefused(UserError):
    def __init__(self, what: str, problem: str) -> None:
        super().__init__(f"No golden label of '{what}' was recorded: {problem}")


class RatingRefused(UserError):
    def __init__(self, document: str, why: str) -> None:
        super().__init__(f"No rating of '{document}' was recorded: {why}")


class HeldDecisionRefused(UserError):
    """What cannot be decided of a held document."""

    def __init__(self, document: str, problem: str) -> None:
        super().__init__(f"Nothing was decided about '{document}': {problem}")


class LabelFileRefused(UserError):
    """Nothing of the file was recorded."""

    MOST = 50

    def __init__(self, file: str, problems: Sequence[str]) -> None:
        shown = "\n".join(f"  {problem}" for problem in problems[: self.MOST])
        more = f"\n  ... and {len(problems) - self.MOST} more" if len(problems) > self.MOST else ""
        super().__init__(f"{file} has {plural(len(problems), 'mistake')}; nothing of it was recorded:\n{shown}{more}")


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


class ClaimRefused(UserError):
    def __init__(self, collection: str, partition: str, problem: str) -> None:
        super().__init__(f"The request of {collection} {partition} stays with whom it is: {problem}.")


class ClaimTaken(UserError):
    """Somebody else was first."""

    def __init__(self, collection: str, partition: str, person: str, since: str) -> None:
        super().__init__(
            f"The request of {collection} {partition} is claimed by {person}, since {since[:16]} UTC. "
            "Ask them, or let an approver assign it to you; you may decide it all the same."
        )


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


class ReleaseFilesRemoved(UserError):
    def __init__(self, collection: str, release: int, at: str) -> None:
        super().__init__(
            f"The documents of release {release} of {collection} cannot be shown: its files were removed by retention "
            f"at {at[:16]} (UTC). What is recorded of it: ai-assets releases show {collection} {release}. A backup of "
            "before then has the documents: ai-assets restore FROM --to ANOTHER-HOME"
        )


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


class IndexMixed(UserError):
    def __init__(self, collection: str, partition: str, found: int, wanted: int) -> None:
        super().__init__(
            f"The index of {collection} that was to be published has {plural(found, 'passage')} of {partition}, and "
            f"{wanted:,} were approved: another process wrote into it meanwhile. Nothing was published; try again: "
            f"ai-assets publish {collection}"
        )


class IndexRefused(UserError):
    def __init__(self, collection: str, found: str, *, waivable: bool) -> None:
        waive = ", or have the gate waived" if waivable else ""
        super().__init__(
            f"The index of {collection} that was to go live fails a gate of the golden queries: {found}. Nothing was "
            f"published. Have the partitions approved that it lacks, or run {collection} again with what makes search "
            f"find them{waive}."
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


class CardAltered(UserError):
    def __init__(self, collection: str, number: int, found: str) -> None:
        super().__init__(
            f"The model card of release {number} of {collection} is not what was published: {found}. It is not shown. "
            "Bring the state store back from a backup (ai-assets restore); the release itself is not touched by this. "
            "What else was altered: ai-assets audit verify"
        )


class DocumentUnknown(UserError):
    def __init__(self, collection: str, document_id: str, hint: str) -> None:
        super().__init__(f"{collection} has no document '{document_id}'{hint}")


class PersonalKeyUnusable(UserError):
    def __init__(self, found: str) -> None:
        super().__init__(f"That key cannot be used: {found}.")


class OwnKeyRefused(UserError):
    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"The key was not added for {name}: {problem}.")


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


class PasswordUnsuitable(UserError):
    def __init__(self, found: int, shortest: int, longest: int) -> None:
        super().__init__(f"A password has {shortest} to {plural(longest, 'character')}; this one has {found}.")


class RoleUnknown(UserError):
    def __init__(self, found: str, hint: str) -> None:
        super().__init__(f"'{found}' is no role{hint}")


class TokenRefused(UserError):
    def __init__(self, found: str) -> None:
        self.found = found
        super().__init__(
            f"The token in AI_ASSETS_TOKEN starts nothing: {found}. Make another (ai-assets reviewers token NAME), or "
            "unset the variable. Nothing was started."
        )


class TokenUnknown(UserError):
    def __init__(self, token_id: str) -> None:
        super().__init__(f"There is no token '{token_id[:40]}'. See: ai-assets reviewers tokens")
