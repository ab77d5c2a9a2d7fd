"""`ai-assets inference`: whether the endpoints of inference.yaml work, how fast they are, and who waits for them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Annotated, Any

import typer

from ai_assets.base.money import in_full
from ai_assets.base.plural import plural
from ai_assets.cli.errors import NoEndpoints
from ai_assets.cli.output import (
    AsJson,
    all_collections,
    console,
    errors,
    home,
    led,
    print_json,
    stores,
    stores_to_read,
    table,
)
from ai_assets.costs.scopes import located, strangers
from ai_assets.inference.latency import EndpointSpeed, speeds
from ai_assets.inference.load import inference_at
from ai_assets.inference.queue_query import endpoint_places
from ai_assets.inference.settings import InferenceSettings
from ai_assets.inference.trial import TIMEOUT_S, Trial, tried
from ai_assets.storage.state import StateStore

app = typer.Typer(
    help="Endpoints of inference.yaml: whether they work, what to change, how fast they are.", no_args_is_help=True
)
AT_ONCE = 8
MOST_LABELS = 5


@app.command("test")
def try_endpoints(
    endpoint: Annotated[
        str | None, typer.Argument(metavar="[ENDPOINT]", help="A name under `endpoints`; all by default.")
    ] = None,
    call: Annotated[
        bool, typer.Option("--call/--no-call", help="Make the smallest calls, which are paid; or only reach it.")
    ] = True,
    timeout_s: Annotated[
        float, typer.Option(min=0.1, max=3600, help="For each call and each look, in seconds.")
    ] = TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Reach an endpoint, make one tiny call, and say what it can, what it costs and which keys to change."""
    settings = inference_at(home())
    if not settings.endpoints:
        raise NoEndpoints(home().inference)
    names = [endpoint] if endpoint is not None else list(settings.endpoints)
    places = stores() if call else None
    found = _all_of(names, settings, None if places is None else places.state, timeout_s, quiet=as_json)
    if as_json:
        print_json({"endpoints": [described(trial) for trial in found]})
    elif endpoint is not None:
        _show(found[0], called=call)
    else:
        _show_all(found)
    if not all(trial.works for trial in found):
        raise typer.Exit(1)


@app.command("speed")
def speed(as_json: AsJson = False) -> None:
    """How fast each endpoint has answered in the last ten minutes, over all processes, and which is slow now."""
    with stores_to_read().state.read() as connection:
        found = speeds(connection)
    if as_json:
        print_json({"endpoints": [described_speed(each) for each in found]})
    elif not found:
        console.print("No endpoint has answered in the last ten minutes.")
    else:
        rows = [
            (each.calls.endpoint, each.calls.kind, each.calls.size, f"{each.answers:,}", f"{each.p50_s:.2f}",
             f"{each.p95_s:.2f}", ", ".join(f"slower than {limit:g} s" for limit in each.slow_limits_s))
            for each in found
        ]  # fmt: skip
        columns = ("endpoint", "kind", "request", "answers", "p50 s", "p95 s", "left for another")
        table("The last ten minutes", columns, rows, ("answers", "p50 s", "p95 s"))


@app.command("queue")
def queue(as_json: AsJson = False) -> None:
    """Who holds the places of each endpoint and who waits for them, over all processes."""
    settings = inference_at(home())
    with stores_to_read().state.read() as connection:
        found = endpoint_places(connection, settings)
    doubts = [located(home().inference, each) for each in strangers(settings, all_collections())]
    if as_json:
        print_json({"endpoints": [asdict(each) for each in found], "doubts": doubts})
        return
    for doubt in doubts:
        errors.print(doubt)
    if not any(each.calls for each in found):
        console.print("Nobody holds or waits for a place at any endpoint.")
        return
    rows = [
        (each.endpoint, calls.party, calls.priority or "", f"{calls.weight:g}", f"{calls.in_flight:,}",
         f"{calls.waiting:,}", "" if calls.waiting_s is None else f"{calls.waiting_s:.0f}")
        for each in found for calls in each.calls
    ]  # fmt: skip
    columns = ("endpoint", "whose", "priority", "share", "in flight", "waiting", "without a place s")
    table("Places", columns, rows, columns[3:])
    for each in found:
        kept = f"; {each.kept} of them only for interactive calls" if each.kept else ""
        console.print(
            f"{each.endpoint}: {each.in_flight:,} of {plural(each.places, 'place is', 'places are')} taken{kept}"
        )


def described_speed(found: EndpointSpeed) -> dict[str, Any]:
    measured = asdict(found)
    return {**measured.pop("calls"), **measured}


def _all_of(
    names: Sequence[str], settings: InferenceSettings, state: StateStore | None, timeout_s: float, *, quiet: bool
) -> list[Trial]:
    def one(name: str) -> Trial:
        trial = tried(name, settings, state, timeout_s=timeout_s)
        if not quiet and len(names) > 1:
            errors.print(f"{name}: {'works' if trial.works else 'does not work'}")
        return trial

    if not quiet:
        errors.print(f"Trying {', '.join(names)}; each look may take {timeout_s:g} s …")
    with ThreadPoolExecutor(min(len(names), AT_ONCE)) as pool:
        return list(pool.map(one, names))


def described(trial: Trial) -> dict[str, Any]:
    return {**asdict(trial), "works": trial.works, "lines": trial.lines}


def _show(trial: Trial, *, called: bool) -> None:
    console.print(f"{trial.endpoint}: model {trial.model} at {trial.base_url}", style="bold")
    for name, value in facts(trial):
        console.print(f"  {name:<18} {value}")
    for note in trial.notes:
        console.print(f"  note: {note}")
    if trial.calls:
        maybe = f", {in_full(trial.maybe_usd)} maybe billed" if trial.maybe_usd else ""
        console.print(f"  {'paid':<18} {in_full(trial.cost_usd)} for {_calls(trial)}{maybe}")
    if trial.problem is not None:
        errors.print(led("failed:", "bold red", f" {trial.problem}"))
    if trial.lines:
        console.print(f"In {home().inference}:")
        for line in trial.lines:
            console.print(f"  {line}")
    elif trial.works:
        console.print(_as_it_is(trial) if called else "It can be reached; without --no-call it is asked.")


def _as_it_is(trial: Trial) -> str:
    return "It works as it is declared, but for what is noted above." if trial.notes else "Nothing needs to be changed."


def _calls(trial: Trial) -> str:
    return plural(trial.calls, "call")


def facts(trial: Trial) -> list[tuple[str, str]]:
    """What is known, in words; what was not tried is left out."""
    found: list[tuple[str, str]] = []
    if trial.reached_s is not None:
        models = "" if trial.models is None else f"; it lists {plural(len(trial.models), 'model')}"
        found.append(("reached", f"in {trial.reached_s:.2f} s{models}"))
    if trial.latency_s is not None:
        found.append(("answers", f"in {trial.latency_s:.2f} s, as {trial.answered_model or trial.model}"))
    if trial.structured is not None:
        found.append(("structured output", trial.structured or "no"))
    if trial.logprobs is not None:
        found.append(("logprobs", _yes(trial.logprobs)))
    if trial.usage is not None:
        found.append(("usage", _yes(trial.usage)))
    if trial.embedding_dimensions is not None:
        found.append(("embeddings", _dimensions(trial.embedding_dimensions)))
    if trial.batches is not None:
        found.append(("batches", _yes(trial.batches)))
    if trial.scores:
        found.append(("scores", "yes, of a text for a query"))
    if trial.labels is not None:
        found.append(("labels", ", ".join(trial.labels[:MOST_LABELS]) + " …" * (len(trial.labels) > MOST_LABELS)))
    found.append(("price", trial.price or "none for today"))
    return found


def _yes(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"


def _dimensions(count: int | None) -> str:
    return "" if count is None else f"{plural(count, 'dimension')}" if count else "no"


def _of_texts(trial: Trial) -> str:
    other = ": scores" if trial.scores else ": labels" if trial.labels is not None else ""
    return f"{_dimensions(trial.embedding_dimensions)}{other}"


def _show_all(found: Sequence[Trial]) -> None:
    columns = (
        "endpoint", "model", "works", "seconds", "structured", "logprobs", "usage", "embeddings", "price", "change",
    )  # fmt: skip
    rows = [
        (
            trial.endpoint, trial.answered_model or trial.model, _yes(trial.works),
            "" if trial.latency_s is None else f"{trial.latency_s:.2f}",
            "" if trial.structured is None else trial.structured or "no", _yes(trial.logprobs), _yes(trial.usage),
            _of_texts(trial), trial.price or "none",
            ", ".join(f"{key}: {value}" for key, value in trial.changes.items()),
        )
        for trial in found
    ]  # fmt: skip
    table("Endpoints", columns, rows, ("seconds",))
    for trial in found:
        if trial.problem is not None:
            errors.print(led("failed:", "bold red", f" {trial.problem}"))
        for note in trial.notes:
            console.print(f"{trial.endpoint}: {note}")
    calls, cost_usd = sum(trial.calls for trial in found), sum(trial.cost_usd for trial in found)
    if calls:
        console.print(
            f"{plural(calls, 'call')}, {in_full(cost_usd)} paid (ai-assets ledger list). One alone: inference test NAME"
        )
