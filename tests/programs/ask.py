"""A program that asks: reads from stdin what, waits for `go`, and prints what it got as a line of JSON."""

import json
import sys
from collections import Counter
from typing import Any

import aiohttp  # noqa: F401  now, and not when the clock runs
from engines import opened, question, to_embed

from ai_assets.base.errors import AiAssetsError
from ai_assets.inference.records import Answer, Caller, Result
from ai_assets.inference.settings import InferenceSettings
from ai_assets.storage import workers


def main() -> None:
    told = json.loads(sys.stdin.readline())
    workers.TTL_S = told.get("ttl_s", workers.TTL_S)
    declared = InferenceSettings.model_validate(told["settings"])
    make = to_embed if told.get("embed") else question
    numbers = range(told.get("first", 0), told.get("first", 0) + told["count"])
    caller = Caller(collection="notes", run_id=told.get("run_id", "run"), backfill=told.get("backfill", ""))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    results: list[Result] = []
    said: dict[str, Any] = {}
    with opened(told["state_url"], declared) as engine:
        try:
            for result in engine.map((make(number, **told.get("request", {})) for number in numbers), caller):
                results.append(result)
                if told.get("tell_each"):
                    sys.stdout.write(f"{len(results)}\n")
                    sys.stdout.flush()
        except AiAssetsError as error:
            said["raised"] = f"{type(error).__name__}: {error}"
    answers = [result for result in results if isinstance(result, Answer)]
    said |= {
        "results": len(results),
        "answers": len(answers),
        "reused": sum(answer.reused for answer in answers),
        "cost_usd": sum(result.cost_usd for result in results),
        "errors": Counter(result.error for result in results if not isinstance(result, Answer)),
    }
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
