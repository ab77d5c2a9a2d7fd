"""A program that asks by batch and collects, and kills itself at a step: the ordinary way to die at a known moment."""

import json
import os
import signal
import sys
import time
from typing import Any

from engines import question

from ai_assets.inference.batch.asking import BatchAsker
from ai_assets.inference.batch.collecting import Collector
from ai_assets.inference.records import Answer, Caller
from ai_assets.inference.settings import InferenceSettings
from ai_assets.storage.state import StateStore


def main() -> None:
    told = json.loads(sys.stdin.readline())
    settings = InferenceSettings.model_validate(told["settings"])
    seen: dict[str, int] = {}

    def step(name: str) -> None:
        seen[name] = seen.get(name, 0) + 1
        if name == told.get("die_at") and seen[name] > told.get("after", 0):
            os.kill(os.getpid(), signal.SIGKILL)

    state = StateStore(told["state_url"])
    asked = [question(number) for number in range(told["count"])]
    caller = Caller(collection="notes", asset="kind", partition="p", run_id=told.get("run_id", "run"))
    said: dict[str, Any] = {}
    if told.get("ask", True):
        with BatchAsker(settings, state, step) as asker:
            results = list(asker.map(asked, caller))
            step("asked")
            asker.submit()
        said["answers"] = sum(isinstance(result, Answer) for result in results)
    deadline = time.monotonic() + told.get("collect_s", 0)
    while time.monotonic() < deadline:
        with Collector(settings, state, step=step) as collector:
            if not collector.collect().open:
                break
        time.sleep(0.02)
    sys.stdout.write(json.dumps(said) + "\n")
    state.close()


if __name__ == "__main__":
    main()
