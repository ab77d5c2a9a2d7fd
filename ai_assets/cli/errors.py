"""Errors that only the command has. They hang below `UserError`.

CollectionExists, NothingToScaffold  `ai-assets new` refuses
ScaffoldRefused                      a file that would be written is there already, or cannot be named so
PasswordMissing                      a decision on the command line without one
NoReviewers                          a decision before anybody may decide
PersonKnown                          somebody is added twice
PersonDisabled                       a disabled person is given something
LauncherUnclear                      a token and a name of different people
RebuildNotConfirmed                  `ai-assets targets rebuild` where nobody can be asked
NoEndpoints                          `ai-assets inference test` without one to test
NoCanaries                           `ai-assets canary` where no endpoint declares one
StageNotAdaptable                    `ai-assets adapt` of a stage that is not the built-in classifier
AdaptationUnwritable                 its file or the declaration cannot be written
NoContract                           `ai-assets contract` where none is declared or published
ContractUnwritable                   its file cannot be written
OneForm                              several of its options that each say what to do
ReachUnclear                         `ai-assets touched` by nothing, or by several
StageNotWritable                     its declaration is not written as lines, so none is added
"""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from ai_assets.base.errors import UserError
from ai_assets.base.plural import plural
from ai_assets.collection.scaffolding import skipped_in_words
from ai_assets.collection.survey import Survey
from ai_assets.documents.parse import Format


class CollectionExists(UserError):
    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists already; nothing was changed. Edit it, or choose another name.")


class NothingToScaffold(UserError):
    def __init__(self, source: str, found: Survey) -> None:
        skipped = "".join(f"\n  {line}" for line in skipped_in_words(found))
        super().__init__(
            f"{source} holds no document this can read ({plural(found.files, 'file')} found; "
            f"readable are {', '.join(get_args(Format))}).{skipped}"
        )


class ScaffoldRefused(UserError):
    def __init__(self, name: str, found: str) -> None:
        super().__init__(f"'{name}' cannot be scaffolded: {found}.")


class PasswordMissing(UserError):
    def __init__(self, name: str, variable: str) -> None:
        super().__init__(
            f"Deciding as {name} takes their password, and nobody can be asked for it here. "
            f"Set {variable}, or run the command on a terminal."
        )


class NoReviewers(UserError):
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


class LauncherUnclear(UserError):
    def __init__(self, by: str, holder: str) -> None:
        super().__init__(
            f"--by says {by}, and AI_ASSETS_TOKEN is a token of {holder}. Leave one of them out; nothing was started."
        )


class LauncherWithoutRole(UserError):
    def __init__(self, person: str, collection: str) -> None:
        super().__init__(
            f"A run of '{collection}' in the name of {person} takes the role reviewer there, as tenants are declared: "
            f"ai-assets reviewers grant {person} reviewer {collection}. Nothing was started."
        )


class NoEndpoints(UserError):
    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} declares no endpoint, so there is none to test. Write one under `endpoints:`; "
            "inference.example.yaml has some to start from."
        )


class NoCanaries(UserError):
    def __init__(self, path: Path) -> None:
        super().__init__(
            f"No endpoint of {path} declares a canary. Write `canary: {{}}` below one; docs/canary.md has the settings."
        )


class NoContract(UserError):
    def __init__(self, collection: str) -> None:
        super().__init__(
            f"{collection} declares no contract, and what is live was published without one. Make one of what is live: "
            f"ai-assets contract {collection} --write"
        )


class ContractUnwritable(UserError):
    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"The contract {path} cannot be written ({error.strerror or error}); nothing was changed. Let this user "
            "write there, or make room."
        )


class OneForm(UserError):
    def __init__(self) -> None:
        super().__init__("Choose one of --json-schema, --dbt-sources, --check and --write.")


class StageNotAdaptable(UserError):
    def __init__(self, collection: str, stage: str | None, builtin: Sequence[str], *, exists: bool) -> None:
        named = ", ".join(builtin) or "none"
        if stage is None and builtin:
            super().__init__(f"{collection} has several stages of the built-in classifier ({named}); name one: --stage")
            return
        found = f"{collection} has no stage" if stage is None else f"{collection} has no stage '{stage}'"
        if exists:
            found = f"Stage '{stage}' of {collection} is not the built-in classifier"
        super().__init__(
            f"{found}; only a classify stage without a route is adapted to documents without labels (here: {named})."
        )


class StageNotWritable(UserError):
    def __init__(self, path: Path, stage: str, entry: str) -> None:
        super().__init__(
            f"Stage '{stage}' in {path} is not written as a block of lines; write '{entry}' there yourself."
        )


class AdaptationUnwritable(UserError):
    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"The adaptation {path} and its declaration cannot be written ({error.strerror or error}); nothing was "
            "changed. Let this user write there, make room, and start the command again."
        )


class ReachUnclear(UserError):
    def __init__(self) -> None:
        super().__init__("Name one of --prompt VERSION, --model NAME and --call ID; rows and releases are found by it.")


class RebuildNotConfirmed(UserError):
    def __init__(self) -> None:
        super().__init__("Nobody can be asked here whether to rebuild: add --yes. Nothing was changed.")
