"""A process that wants places of one endpoint without end, or asks some questions: a line of JSON says which."""

import json
import sys
import time
from itertools import count
from typing import Any

import aiohttp  # noqa: F401  now, and not when the clock runs
from engines import opened, question

from ai_assets.inference.records import Answer, Caller
from ai_assets.inference.settings import InferenceSettings


def main() -> None:
    told: dict[str, Any] = json.loads(sys.stdin.readline())
    declared = InferenceSettings.model_validate(told["settings"])
    caller = Caller(tenant=told.get("tenant", "default"), collection=told["collection"], run_id=told["name"])
    asked = (question(f"{told['name']}-{number}", priority=told.get("priority")) for number in count())
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    with opened(told["state_url"], declared) as engine:
        if "calls" not in told:
            for _ in engine.map(asked, caller):
                pass
        waited = []
        for _ in range(told["calls"]):
            started = time.monotonic()
            result = engine.call(next(asked), caller)
            assert isinstance(result, Answer), result
            waited.append(time.monotonic() - started - result.latency_s)
    sys.stdout.write(json.dumps({"waited_s": waited}) + "\n")


if __name__ == "__main__":
    main()
