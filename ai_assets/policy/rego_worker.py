"""The process that evaluates Rego: a line of JSON in, a line of JSON out. A script; it imports nothing of ours.

The interpreter is native code: it writes errors to standard output, cannot be interrupted, and can end its process.
Here that is one child that is killed or missed, and the answer is that the policy denies.
"""

import json
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

_ERROR = re.compile(r"\(error (?:\d+:(m\d+\.rego)\|(\d+)\|\d+)?\s*\(errormsg \d+:(.*?)\)\s*\(", re.DOTALL)
_NATIVE = re.compile(r"\(errormsg \d+:(.*?)\)\s*\(", re.DOTALL)


def told(text: str) -> dict[str, Any]:
    """What an error of the interpreter says: module, offset and message, as far as there are."""
    if found := _ERROR.search(text):
        module, offset, message = found.groups()
        return {"error": message, "module": module, "offset": int(offset) if offset else None}
    found = _NATIVE.search(text)
    return {"error": found.group(1) if found else " ".join(text.split())[:300], "module": None, "offset": None}


def messages(node: Any) -> Iterator[str]:
    """All messages below an error."""
    if node.kind_name == "rego-errormsg":
        yield str(node.value)
    for child in range(len(node)):
        yield from messages(node.index(child))


def answer(interpreter: Any, asked: dict[str, Any], regopy: Any) -> dict[str, Any]:
    interpreter.set_input(regopy.Input(asked["input"]))
    try:
        output = interpreter.query(asked["query"])
    except json.JSONDecodeError as error:
        return told(error.doc)
    if not output.ok():
        said = "; ".join(dict.fromkeys(messages(output.node())))
        return {"error": said or "it failed while it was evaluated", "module": None, "offset": None}
    expressions = output.results[0].expressions if output.results else []
    return {"undefined": True} if not expressions else {"value": expressions[0]}


def answers(request: dict[str, Any], regopy: Any) -> dict[str, Any]:
    interpreter = regopy.Interpreter()
    interpreter.strict_built_in_errors = True
    unknown = [name for name in request["builtins"] if not interpreter.is_builtin(name)]
    try:
        for name, text in request["modules"]:
            interpreter.add_module(name, text)
        results = [answer(interpreter, asked, regopy) for asked in request["asked"]]
    except regopy.RegoError as error:
        results = [told(str(error))] * len(request["asked"])
    return {"results": results, "unknown": unknown}


def main() -> None:
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the interpreter prints goes to where nobody reads answers
    import regopy

    for line in sys.stdin:
        out.write(json.dumps(answers(json.loads(line), regopy)) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
