"""One of several processes that want the places of one endpoint; told by a line of JSON, says a line of JSON.

`{"flood": true}` asks without end. Else it asks `calls` questions, `at_once` at a time with a
pause between, and says how long each waited for its place.
"""

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from typing import Any

from ai_assets.inference.engine import Engine
from ai_assets.inference.records import Answer, Caller, Request
from ai_assets.inference.settings import InferenceSettings
from ai_assets.storage.state import StateStore
from bench.engine_client import request


def main(told: dict[str, Any]) -> dict[str, Any]:
    declared = InferenceSettings.model_validate(told["settings"])
    caller = Caller(collection=told["collection"], run_id=told["name"])
    asked = (
        replace(
            request(number),
            document=f"{told['name']}-{number}",
            sample=told["sample"] + number,
            priority=told["priority"],
        )
        for number in count()
    )
    state = StateStore(told["state_url"])
    try:
        with Engine(declared, state) as engine:
            if told.get("flood"):
                return {"answered": sum(isinstance(result, Answer) for result in engine.map(asked, caller))}
            return _asks(engine, caller, asked, told)
    finally:
        state.close()


def _asks(engine: Engine, caller: Caller, asked: Iterator[Request], told: dict[str, Any]) -> dict[str, Any]:
    def one(question: Request) -> tuple[float, float]:
        started = time.perf_counter()
        result = engine.call(question, caller)
        whole_s = time.perf_counter() - started
        assert isinstance(result, Answer), result
        time.sleep(told["pause_s"])
        return whole_s, whole_s - result.latency_s

    one(next(asked))  # opens everything
    questions = [next(asked) for _ in range(told["calls"])]
    with ThreadPoolExecutor(told["at_once"]) as pool:
        times = list(pool.map(one, questions))
    return {"whole_s": [whole_s for whole_s, _ in times], "queued_s": [queued_s for _, queued_s in times]}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.stdin.readline()))))
