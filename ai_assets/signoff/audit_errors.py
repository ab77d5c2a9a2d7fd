"""Errors about the audit chain: records, keys, checkpoints and witnesses. They hang below `UserError`.

ExportUnreadable                      a file that is no export of the audit chain
AuditBroken                           the audit chain does not verify
ChainRolledBack, ChainRewritten       the audit chain is older than, or other than, a signed checkpoint says
CheckpointUntrusted, NoteUnreadable   a checkpoint that nobody vouches for, or that is none
NothingRecorded, NothingToExtend      a checkpoint of a chain without records, or of more than there are
NotProvable                           a release or document of which not all that a proof takes is there
StatementRefused                      an in-toto statement that does not hold, by this home's chain and keys
NoCheckpointThere                     a place to verify against that holds none of this chain
WitnessFailed                         somebody who holds checkpoints did not take one, or gives none back
SignatureInvalid                      a signature is not of this content, or by a key that does not count
KeyNotHeld, KeysMissing,
    AuditKeyUnusable                  what is to be signed cannot be, here
KeyUnknown, KeyChangeRefused          a key is not replaced or revoked
"""

from collections.abc import Sequence
from pathlib import Path

from ai_assets.base.errors import UserError
from ai_assets.base.plural import plural


class ExportUnreadable(UserError):
    def __init__(self, path: Path, found: str) -> None:
        super().__init__(f"{path} is no export of an audit chain: {found}. Make one with: ai-assets audit export")


class AuditBroken(UserError):
    def __init__(self, record: str, problem: str) -> None:
        super().__init__(f"The audit trail does not verify. First bad record: {record}: {problem}")


class SignatureInvalid(UserError):
    """Why a signature does not count; whoever knows the record says of which."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"The signature does not count: {problem}.")


class StatementRefused(UserError):
    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"The statement {path} does not hold: {problem}. Export it again from the release: "
            "ai-assets explain COLLECTION DOCUMENT --release N --in-toto."
        )


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


class KeyChangeRefused(UserError):
    def __init__(self, kind: str, found: str) -> None:
        super().__init__(f"The {kind} key was not changed: {found}.")


class AuditKeyUnusable(UserError):
    def __init__(self, where: object, found: str) -> None:
        super().__init__(f"The key {where} cannot be used: {found}.")


class NoteUnreadable(UserError):
    def __init__(self, found: str, where: object = "The text") -> None:
        self.found = found
        super().__init__(f"{where} is no checkpoint: {found}. One looks as `ai-assets audit checkpoint` prints it.")


class ChainRolledBack(UserError):
    def __init__(self, found: int, noted: int, where: object) -> None:
        super().__init__(
            f"The state store holds {plural(found, 'audit record')}, and {where} holds a signed checkpoint of {noted}: "
            f"{_records(found + 1, noted)} cut off, or an older store was put back. Nothing was changed. Bring back "
            "the newer store; where the older one was restored on purpose, record that: ai-assets audit accept-restored"
        )


class ChainRewritten(UserError):
    """The records from `first` to `last` are not all what a signed checkpoint says they were."""

    def __init__(self, first: int, last: int, where: object) -> None:
        self.first, self.last = first, last
        super().__init__(
            f"The audit chain is not the one of which {where} holds a signed "
            f"checkpoint of {plural(last, 'record')}: among "
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
        super().__init__(f"The audit chain has {plural(size, 'record')}, and so extends no checkpoint of {since}.")


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


def _numbers(first: int, last: int) -> str:
    return f"record {first}" if first == last else f"records {first} to {last}"


def _records(first: int, last: int) -> str:
    return f"{_numbers(first, last)} {'was' if first == last else 'were'}"
