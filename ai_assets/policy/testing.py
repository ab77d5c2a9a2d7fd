"""The `test_` rules of policies, run as `opa test` runs them, each under the one input that it names.

regopy 1.5.2 ends its process where a rule compares a number of a `with input as`; so the term is evaluated first and
given as the input itself, which is also how a verdict is made.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ai_assets.policy.files import PolicyFile, PolicySet
from ai_assets.policy.interpreter import InterpreterFailed, RegoAnswer, RegoQuestion, interpreter
from ai_assets.policy.rego_text import RegoTest

GIVEN = "ai_assets_given"
"""The rule by which the input of a test is evaluated."""


@dataclass(frozen=True, kw_only=True)
class PolicyTestResult:
    path: Path
    line: int
    name: str
    passed: bool
    problem: str | None = None
    """Why it could not be run."""


def run_tests(policies: PolicySet) -> Iterator[PolicyTestResult]:
    modules = [(f"m{number}.rego", file.rego.without_inputs) for number, file in enumerate(policies.files)]
    for file in policies.files:
        for test in file.rego.tests():
            yield _run(modules, file, test)


def _run(modules: Sequence[tuple[str, str]], file: PolicyFile, test: RegoTest) -> PolicyTestResult:
    passed, problem = False, test.problem
    if problem is None:
        try:
            passed, problem = _outcome(modules, file, test)
        except InterpreterFailed as error:
            problem = str(error)
    return PolicyTestResult(path=file.path, line=test.line, name=test.name, passed=passed, problem=problem)


def _outcome(modules: Sequence[tuple[str, str]], file: PolicyFile, test: RegoTest) -> tuple[bool, str | None]:
    given = _given(modules, file, test)
    if given.error is not None or given.undefined:
        return False, f"its input cannot be evaluated: {given.error or 'it is undefined'}"
    asked = RegoQuestion(query=f"data.{file.package}.{test.name}", input=given.value)
    (answer,), _ = interpreter().ask(modules, [asked])
    return answer.value is True, answer.error


def _given(modules: Sequence[tuple[str, str]], file: PolicyFile, test: RegoTest) -> RegoAnswer:
    if test.given is None:
        return RegoAnswer(value={})
    lines = [f"package {file.package}", *file.rego.imports, f"{GIVEN} := {test.given}"]
    module = ("given.rego", "\n".join(lines) + "\n")
    (answer,), _ = interpreter().ask([*modules, module], [RegoQuestion(query=f"data.{file.package}.{GIVEN}", input={})])
    return answer
