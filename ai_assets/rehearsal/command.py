"""The options of the provider, the same for `ai-assets provider` and `python -m ai_assets.rehearsal`."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ai_assets.rehearsal.errors import ShareWrong
from ai_assets.rehearsal.settings import Behaviour, Rule, read_script

_DEFAULT = Behaviour()


def provider(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8099,
    answers: Annotated[
        str, typer.Option(help="builtin reads the document; quick does not, for measurements of speed.")
    ] = (_DEFAULT.answers),
    seed: Annotated[int, typer.Option(help="Decides which requests get faults.")] = _DEFAULT.seed,
    fault: Annotated[
        list[str] | None, typer.Option(metavar="KIND=SHARE", help="Share of requests; repeatable.")
    ] = None,
    script: Annotated[Path | None, typer.Option(help="JSON lines with rules: which requests get which fault.")] = None,
    latency_ms: Annotated[float, typer.Option(help="Every answer takes at least this long.")] = _DEFAULT.latency_ms,
    jitter_ms: Annotated[float, typer.Option(help="And at most so much longer.")] = _DEFAULT.jitter_ms,
    concurrency: Annotated[int | None, typer.Option(help="Calls at once; more are answered with 429.")] = None,
    over_limit: Annotated[str, typer.Option(help="refuse or queue what is above --concurrency.")] = _DEFAULT.over_limit,
    requests_per_minute: Annotated[int | None, typer.Option(help="More are answered with 429.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="More are answered with 429.")] = None,
    retry_after_s: Annotated[float, typer.Option(help="What Retry-After says.")] = _DEFAULT.retry_after_s,
    hang_s: Annotated[float, typer.Option(help="How long a hanging request is kept.")] = _DEFAULT.hang_s,
    drip_s: Annotated[float, typer.Option(help="How long a dripping answer takes.")] = _DEFAULT.drip_s,
    batch_seconds: Annotated[float, typer.Option(help="How long a batch takes.")] = _DEFAULT.batch_seconds,
    batch_queue_tokens: Annotated[
        int | None, typer.Option(help="Input tokens of all batches at once; one that passes it fails.")
    ] = None,
    context_tokens: Annotated[int, typer.Option(help="Longer requests are refused.")] = _DEFAULT.context_tokens,
    max_body_mb: Annotated[float, typer.Option(help="Larger requests are refused.")] = _DEFAULT.max_body_mb,
    models: Annotated[
        str, typer.Option(help="Names with commas between; others are unknown. By default any name.")
    ] = "",
    key: Annotated[str | None, typer.Option(help="The only API key that is accepted. By default any.")] = None,
    price_input: Annotated[float, typer.Option(help="US dollars per million tokens.")] = _DEFAULT.price_input,
    price_cached_input: Annotated[float | None, typer.Option(help="The same for cached tokens.")] = None,
    price_output: Annotated[float, typer.Option(help="The same for output.")] = _DEFAULT.price_output,
    setting: Annotated[
        list[str] | None, typer.Option(metavar="NAME=JSON", help="Any other setting; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say where it listens as a line of JSON.")] = False,
) -> None:
    """Rehearse on a local server that speaks the OpenAI protocol, fails on demand and counts what would be billed."""
    behaviour = Behaviour.of({
        "answers": answers,
        "seed": seed,
        "fault": _shares(fault or []),
        "latency_ms": latency_ms,
        "jitter_ms": jitter_ms,
        "concurrency": concurrency,
        "over_limit": over_limit,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "retry_after_s": retry_after_s,
        "hang_s": hang_s,
        "drip_s": drip_s,
        "batch_seconds": batch_seconds,
        "batch_queue_tokens": batch_queue_tokens,
        "context_tokens": context_tokens,
        "max_body_mb": max_body_mb,
        "models": [name.strip() for name in models.split(",") if name.strip()],
        "key": key,
        "price_input": price_input,
        "price_cached_input": price_cached_input,
        "price_output": price_output,
        **_settings(setting or []),
    })  # fmt: skip
    rules: list[Rule] = read_script(script) if script is not None else []
    from ai_assets.rehearsal.server import run

    plain = as_json or not sys.stdout.isatty()
    run(behaviour, rules, host, port, _say_json if plain else _say)


def _shares(declared: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in declared:
        kind, _, share = each.partition("=")
        try:
            found[kind.strip()] = float(share)
        except ValueError as e:
            raise ShareWrong(kind.strip(), share) from e
    return found


def _settings(declared: list[str]) -> dict[str, Any]:
    """`vllm=true`, `tei_batch=8`, `serve_tier=default`: the value is JSON, or text where that is none."""
    found: dict[str, Any] = {}
    for each in declared:
        name, _, value = each.partition("=")
        try:
            found[name.strip()] = json.loads(value)
        except ValueError:
            found[name.strip()] = value
    return found


def _say_json(host: str, port: int) -> None:
    line = {"url": f"http://{host}:{port}/v1", "port": port, "pid": os.getpid()}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _say(host: str, port: int) -> None:
    sys.stdout.write(
        f"The rehearsal provider listens on http://{host}:{port} (open it for the counts); stop it with Ctrl-C.\n"
        f"In inference.yaml, write base_url: http://{host}:{port}/v1\n"
    )
    sys.stdout.flush()
