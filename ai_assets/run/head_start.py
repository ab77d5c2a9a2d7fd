"""A run of many new documents begins at once what takes a while to begin, beside the first files that are read."""

import threading
from importlib import import_module

from ai_assets.run.context import Work
from ai_assets.run.process_count import DueFiles
from ai_assets.run.text_process import ENOUGH


def begin(work: Work, due: DueFiles) -> None:
    if due.new < ENOUGH:
        return
    work.texts.get_ready()
    if work.collection.asks_models:
        threading.Thread(target=import_module, args=("aiohttp",), name="head start", daemon=True).start()
