"""The names of OpenTelemetry's GenAI conventions, old and new: the one place that knows them. Pure.

The conventions say: go on with the names of version 1.36 until `OTEL_SEMCONV_STABILITY_OPT_IN` asks for the latest.
The cost of a call is a proposal yet (semantic-conventions-genai, pull request 443), so only the latest set has it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from ai_assets.inference.prices import usd_of
from ai_assets.inference.records import NO_USAGE, Request, Usage
from ai_assets.inference.settings import REHEARSAL, Endpoint
from ai_assets.telemetry.span_records import Value

OPT_IN, LATEST = "OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental"
OPERATIONS = {"chat": "chat", "embedding": "embeddings", "rerank": "rerank", "predict": "predict"}
_RAW_OPERATIONS = {
    "chat/completions": "chat", "embeddings": "embeddings", "completions": "text_completion", "responses": "chat",
}  # fmt: skip
_PROVIDERS = {
    "api.openai.com": "openai", "api.anthropic.com": "anthropic", "api.mistral.ai": "mistral_ai",
    "api.groq.com": "groq", "api.deepseek.com": "deepseek", "api.perplexity.ai": "perplexity", "api.x.ai": "x_ai",
    "api.cohere.com": "cohere", "generativelanguage.googleapis.com": "gcp.gemini",
}  # fmt: skip
DURATION_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
_NAMES_OF_PROVIDER = {False: "gen_ai.system", True: "gen_ai.provider.name"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Instrument:
    """A metric: there is one of each."""

    name: str
    unit: str
    description: str
    buckets: tuple[float, ...] = ()
    """Of a histogram; without any it is a sum that only grows."""


def operation_of(request: Request) -> str:
    if request.raw is None:
        return OPERATIONS.get(request.asks_for, request.asks_for)
    path = request.raw.path.strip("/")
    return next((name for end, name in _RAW_OPERATIONS.items() if path.endswith(end)), "raw")


def provider_of(endpoint: Endpoint) -> str:
    """A well-known name, else the protocol that is spoken."""
    if endpoint.base_url == REHEARSAL:
        return "ai_assets.rehearsal"
    host = urlsplit(endpoint.base_url).hostname or ""
    if host.endswith(".openai.azure.com"):
        return "azure.ai.openai"
    return _PROVIDERS.get(host, endpoint.protocol)


def endpoint_attributes(name: str, endpoint: Endpoint, operation: str, *, latest: bool) -> dict[str, Value]:
    """Of every attempt there."""
    found: dict[str, Value] = {
        "gen_ai.operation.name": operation,
        _NAMES_OF_PROVIDER[latest]: provider_of(endpoint),
        "gen_ai.request.model": endpoint.llm,
        "ai_assets.endpoint": name,
    }
    place = urlsplit(endpoint.base_url) if endpoint.base_url != REHEARSAL else None
    if place is not None and place.hostname:
        found["server.address"] = place.hostname
        port = place.port or {"https": 443, "http": 80}.get(place.scheme)
        if port is not None:
            found["server.port"] = port
    return found


def request_attributes(request: Request, prompt: str, *, latest: bool) -> dict[str, Value]:
    """What was asked for, without what was said. `prompt`: the stage whose prompt it is."""
    found: dict[str, Value] = {}
    if request.asks_for == "chat":
        found["gen_ai.request.max_tokens"] = request.max_output_tokens
        if request.temperature is not None:
            found["gen_ai.request.temperature"] = float(request.temperature)
        if request.seed is not None:
            found["gen_ai.request.seed" if latest else "gen_ai.openai.request.seed"] = request.seed
        found["gen_ai.output.type"] = "json" if request.schema is not None else "text"
    if latest and request.dimensions is not None:
        found["gen_ai.embeddings.dimension.count"] = request.dimensions
    if request.prompt:
        found["gen_ai.prompt.name" if latest else "ai_assets.prompt.name"] = prompt
        found["gen_ai.prompt.version" if latest else "ai_assets.prompt.version"] = request.prompt
    return found


def reply_attributes(model: str, finish_reason: str) -> dict[str, Value]:
    found: dict[str, Value] = {}
    if model:
        found["gen_ai.response.model"] = model
    if finish_reason:
        found["gen_ai.response.finish_reasons"] = (finish_reason,)
    return found


def usage_attributes(usage: Usage | None, cost_nusd: int, *, latest: bool) -> dict[str, Value]:
    found: dict[str, Value] = {"ai_assets.cost.usd": usd_of(cost_nusd)}
    if usage is not None and usage != NO_USAGE:
        found["gen_ai.usage.input_tokens"] = usage.input_tokens
        found["gen_ai.usage.output_tokens"] = usage.output_tokens
        if latest and usage.cached_tokens:
            found["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
        if latest and usage.reasoning_tokens:
            found["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens
    if latest:
        found["gen_ai.usage.cost.amount"] = found["ai_assets.cost.usd"]
        found["gen_ai.usage.cost.currency"] = "USD"
        found["gen_ai.usage.cost.source"] = "local"
    return found


EVALUATION = "gen_ai.evaluation.result"
"""An event of the latest set."""


def evaluation_attributes(metric: str, stage: str, scope: str, value: float) -> dict[str, Value]:
    found: dict[str, Value] = {
        "gen_ai.evaluation.name": metric,
        "gen_ai.evaluation.score.value": value,
        "ai_assets.evaluation.scope": scope,
    }
    return {**found, "ai_assets.stage": stage} if stage else found


CALL_DURATION = Instrument(
    name="gen_ai.client.operation.duration", unit="s", description="Duration of an attempt", buckets=DURATION_BUCKETS
)
TOKEN_USAGE = Instrument(
    name="gen_ai.client.token.usage", unit="{token}", description="Tokens of an attempt", buckets=TOKEN_BUCKETS
)
LATEST_DURATIONS = {
    kind: Instrument(name=f"gen_ai.client.{kind}.duration", unit="s", description="Duration of an attempt",
                     buckets=DURATION_BUCKETS)
    for kind in ("inference", "embeddings")
}  # fmt: skip
LATEST_TOKENS = {
    kind: Instrument(name=f"gen_ai.client.inference.operation.{kind}_tokens", unit="{token}",
                     description=f"{kind.capitalize()} tokens of an attempt", buckets=TOKEN_BUCKETS)
    for kind in ("input", "output")
}  # fmt: skip
LATEST_USAGE = {
    kind: Instrument(name=f"gen_ai.client.inference.usage.{kind}_tokens", unit="{token}", description=f"Tokens, {kind}")
    for kind in ("input", "output", "cache_read.input", "reasoning.output")
}  # fmt: skip


CallMeasure = tuple[Instrument, float, str]
"""Of an attempt; the last is its `gen_ai.token.type`, where the old set has one."""


def call_measures(operation: str, took_s: float, usage: Usage | None, *, latest: bool) -> list[CallMeasure]:
    if not latest:
        found: list[CallMeasure] = [(CALL_DURATION, took_s, "")]
        if usage is not None:
            found.append((TOKEN_USAGE, usage.input_tokens, "input"))
            found.append((TOKEN_USAGE, usage.output_tokens, "output"))
        return found
    found = [(LATEST_DURATIONS["embeddings" if operation == "embeddings" else "inference"], took_s, "")]
    if usage is None:
        return found
    for name, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
        found += [(LATEST_TOKENS[name], tokens, ""), (LATEST_USAGE[name], tokens, "")]
    for name, tokens in (("cache_read.input", usage.cached_tokens), ("reasoning.output", usage.reasoning_tokens)):
        if tokens:
            found.append((LATEST_USAGE[name], tokens, ""))
    return found


# Of our own, in no convention


def _own(name: str, unit: str, description: str, buckets: tuple[float, ...] = ()) -> Instrument:
    return Instrument(name=f"ai_assets.{name}", unit=unit, description=description, buckets=buckets)


CALLS = _own("calls", "{call}", "Questions, by what came of them")
ATTEMPTS = _own("attempts", "{attempt}", "Requests that left, by what came of them")
COST = _own("cost", "USD", "Dollars of attempts, by our price list")
MAYBE = _own("cost.maybe", "USD", "Reserved for attempts that may have been billed")
SAVED = _own("cost.saved", "USD", "What answers cost once that were used again")
STAGES = _own("stage.duration", "s", "An asset of a partition", (0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 14400))
RUNS = _own("run.duration", "s", "A run", (1, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400))
DOCUMENTS = _own("documents", "{document}", "Documents of an asset, by what became of them")
OWN_INSTRUMENTS = (CALLS, ATTEMPTS, COST, MAYBE, SAVED, STAGES, RUNS, DOCUMENTS)


# What was said: only where it is asked for


def message_attributes(prompt: str, answer: str | None, *, latest: bool) -> Mapping[str, str]:
    """JSON of the messages: in the old set under the names that it had for attributes of a span."""
    names = ("gen_ai.input.messages", "gen_ai.output.messages") if latest else ("gen_ai.prompt", "gen_ai.completion")
    return {names[0]: prompt} if answer is None else {names[0]: prompt, names[1]: answer}
