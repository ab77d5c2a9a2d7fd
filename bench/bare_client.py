"""The yardstick: asyncio and aiohttp with nothing around. A line of JSON.

`bare_client.py URL CALLS CONCURRENCY [PROTOCOL]`
"""

import asyncio
import json
import random
import resource
import sys
from collections.abc import Iterator
from typing import Any

import aiohttp

from bench.requests import messages

TRIES = 12


def _asked(number: int, protocol: str) -> tuple[str, dict[str, Any]]:
    if protocol == "tei":
        return "embed", {"inputs": messages(number)[-1]["content"], "normalize": True, "truncate": False}
    if protocol == "kserve":
        tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [messages(number)[-1]["content"]]}
        return "v2/models/rehearsal-mini/infer", {"inputs": [tensor], "outputs": [{"name": "embedding"}]}
    body = {"model": "rehearsal-mini", "messages": messages(number), "max_tokens": 64, "temperature": 0}
    return "chat/completions", body


def _is_answer(said: Any, protocol: str) -> bool:
    if protocol == "tei":
        return len(said[0]) > 0
    if protocol == "kserve":
        return len(said["outputs"][0]["data"]) > 0
    return bool(said["choices"][0]["message"]["content"])


async def _one(session: aiohttp.ClientSession, url: str, number: int, protocol: str) -> bool:
    path, body = _asked(number, protocol)
    for tried in range(TRIES):
        retry_after_s = 0.0
        try:
            async with session.post(f"{url}/{path}", json=body) as response:
                if response.status == 200:
                    return _is_answer(await response.json(), protocol)
                retry_after_s = float(response.headers.get("retry-after", 0))
                await response.read()
        except (aiohttp.ClientError, TimeoutError):
            pass
        # The engine's own backoff for both classes, as bench/inference.py declares it.
        await asyncio.sleep(max(random.random() * min(8.0, 0.25 * 2**tried), retry_after_s))
    return False


async def main(url: str, calls: int, concurrency: int, protocol: str = "openai") -> int:
    numbers: Iterator[int] = iter(range(calls))
    answered = 0

    async def worker() -> None:
        nonlocal answered
        for number in numbers:
            is_answered = await _one(session, url, number, protocol)
            answered += is_answered

    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as session:
        await asyncio.gather(*(worker() for _ in range(concurrency)))
    return answered


if __name__ == "__main__":
    answered = asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"answered": answered, "cpu_s": used.ru_utime + used.ru_stime, "peak_kib": used.ru_maxrss}))
