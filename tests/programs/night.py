"""A program that looks at batches or asks, at a time of a night by deadline, and kills itself at a step."""

import datetime
import json
import os
import signal
import sys

from engines import CALLER, question

from ai_assets.base.due import DeclaredDeadline
from ai_assets.inference.batch.asking import BatchAsker
from ai_assets.inference.batch.collecting import Collector
from ai_assets.inference.by_deadline import DeadlineAsker, DueWork
from ai_assets.inference.engine import Engine
from ai_assets.inference.settings import InferenceSettings
from ai_assets.storage.state import StateStore


def main() -> None:
    told = json.loads(sys.stdin.readline())
    settings, state = InferenceSettings.model_validate(told["settings"]), StateStore(told["state_url"])

    def clock(_connection: object) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=told["ahead_s"])

    def step(name: str) -> None:
        if name == told["die_at"]:
            os.kill(os.getpid(), signal.SIGKILL)

    if told["ask"]:
        asked = [question(number) for number in range(told["count"])]
        work = DueWork(deadline=DeclaredDeadline(within_s=told["within_s"]), route="default", calls=len(asked))
        with Engine(settings, state) as engine, BatchAsker(settings, state, step) as batches:
            asker = DeadlineAsker(
                settings=settings, state=state, engine=lambda: engine, batches=lambda: batches, clock=clock
            )
            for number, _result in enumerate(asker.map(asked, CALLER, work)):
                step(f"answer {number}")
            batches.submit()
    else:
        with Collector(settings, state, step=step, clock=clock) as collector:
            collector.collect()
    state.close()


if __name__ == "__main__":
    main()
