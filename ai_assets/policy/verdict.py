"""What the policies of a collection say of one question. They only forbid; so does what keeps them from answering."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_assets.base.mistakes import Mistake
from ai_assets.policy.documents import INPUTS, PolicyInput, as_input, example
from ai_assets.policy.errors import PolicyInvalid
from ai_assets.policy.files import ROOT, SUBJECTS, PolicyFile, PolicySet, Subject
from ai_assets.policy.interpreter import TIMEOUT_S, InterpreterFailed, RegoAnswer, RegoQuestion, interpreter

LONGEST = 500
"""Characters of one sentence."""


@dataclass(frozen=True, kw_only=True)
class PolicyVerdict:
    denied: tuple[str, ...] = ()
    """The sentences, in order; empty where nothing is forbidden."""
    digest: str | None = None
    """Of the policies that were asked; None where there are none."""


NO_POLICY = PolicyVerdict()


def verdict(
    policies: PolicySet, subject: Subject, document: PolicyInput, timeout_s: float = TIMEOUT_S
) -> PolicyVerdict:
    if not policies:
        return NO_POLICY
    if policies.broken:
        return PolicyVerdict(denied=(f"the policy cannot be used: {policies.broken[0]}",), digest=policies.digest)
    if not policies.judges(subject):
        return PolicyVerdict(digest=policies.digest)
    asked = [RegoQuestion(query=f"data.{ROOT}.{subject}.deny", input=as_input(document))]
    try:
        (answer,), _ = interpreter().ask(modules_of(policies.deciding), asked, timeout_s=timeout_s)
    except InterpreterFailed as error:
        return PolicyVerdict(denied=(f"{_places(policies, subject)}: {error}",), digest=policies.digest)
    return PolicyVerdict(denied=tuple(_denied(policies, subject, answer)), digest=policies.digest)


def modules_of(files: Sequence[PolicyFile]) -> list[tuple[str, str]]:
    """Under names that errors are found by."""
    return [(f"m{number}.rego", file.text) for number, file in enumerate(files)]


def _denied(policies: PolicySet, subject: Subject, answer: RegoAnswer) -> list[str]:
    if answer.error is not None:
        return [f"{_place_of(policies, subject, answer)}: it failed: {answer.error}"]
    if answer.undefined:
        return [f"{_places(policies, subject)}: its `deny` says nothing; write `deny contains message if {{ ... }}`"]
    if not isinstance(answer.value, list):
        shape = "an object" if isinstance(answer.value, dict) else "one value"
        return [
            f"{_places(policies, subject)}: its `deny` is {shape}, not a set of sentences; write "
            "`deny contains message if { ... }`"
        ]
    return sorted({_sentence(each) for each in answer.value})


def _sentence(said: Any) -> str:
    text = said if isinstance(said, str) else f"it denies, and says no sentence but {said!r}"
    return " ".join(text.split())[:LONGEST] or "it denies, and says nothing"


def _place_of(policies: PolicySet, subject: Subject, answer: RegoAnswer) -> str:
    found = located_in(policies.deciding, answer)
    return f"{found[0]}:{found[1]}" if found else _places(policies, subject)


def _places(policies: PolicySet, subject: Subject) -> str:
    rules = [file for file in policies.deciding if file.package == f"{ROOT}.{subject}"]
    return ", ".join(f"{file.path}:{_line_of_deny(file)}" for file in rules)


def _line_of_deny(file: PolicyFile) -> int:
    return next((rule.line for rule in file.rego.rules if rule.name == "deny"), 1)


def located_in(files: Sequence[PolicyFile], answer: RegoAnswer) -> tuple[Path, int] | None:
    """File and line of an error, where it says that."""
    names = {name: file for (name, _), file in zip(modules_of(files), files, strict=True)}
    file = names.get(answer.module or "")
    return (file.path, file.text.count("\n", 0, answer.offset) + 1) if file and answer.offset is not None else None


def require_sound(policies: PolicySet) -> None:
    """At load: names that exist, a text that can be parsed, rules that can be evaluated on an example.

    Raises PolicyInvalid. Where the interpreter is not installed only the names are checked: what is asked later denies.
    """
    if not policies:
        return
    found = list(policies.mistakes())
    subjects = [subject for subject in SUBJECTS if policies.judges(subject)]
    asked = [RegoQuestion(query=f"data.{ROOT}.{name}.deny", input=as_input(example(INPUTS[name]))) for name in subjects]
    try:
        answers, unknown = interpreter().ask(modules_of(policies.files), asked, sorted(policies.functions))
    except InterpreterFailed:
        answers, unknown = [], []
    found += policies.mistakes(unknown)
    for subject, answer in zip(subjects, answers, strict=False):
        if answer.error is not None:
            path, line = located_in(policies.files, answer) or (_first(policies, subject), None)
            found.append(Mistake(path, line, answer.error))
    if found:
        raise PolicyInvalid.of(found)


def _first(policies: PolicySet, subject: Subject) -> Path:
    return next(file.path for file in policies.deciding if file.package == f"{ROOT}.{subject}")
