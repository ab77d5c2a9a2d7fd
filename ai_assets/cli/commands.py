"""The commands by name; each is imported when it is asked for, so that help and completion import none."""

import gc
import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group


class Command(NamedTuple):
    """`help` repeats the first sentence of the command's own; a test compares them."""

    module: str
    attribute: str
    help: str


COMMANDS: Mapping[str, Command] = {
    "up": Command(
        "up", "up", "Start Dagster's pages and daemon and the sign-off desk, and keep them running until Ctrl-C."
    ),
    "desk": Command(
        "desk",
        "desk",
        "Serve the sign-off desk until Ctrl-C: the inbox, what would go live, decisions, the audit trail.",
    ),
    "serve": Command(
        "serve",
        "serve",
        "Search what is live over HTTP and MCP, until Ctrl-C: for programs and agents, each with a token that reads.",
    ),
    "new": Command("new", "new", "Scaffold collections/NAME/defs.yaml from what lies in a folder."),
    "plan": Command("plan", "plan", "What a run would cost, before it runs; by default of all that is due."),
    "run": Command(
        "run", "run", "Bring partitions up to date, from the source to the release candidate; by default all."
    ),
    "backfill": Command(
        "backfill",
        "backfill",
        "Show what bringing partitions up to date would cost, ask, set that much aside, and do it.",
    ),
    "migrate": Command(
        "migrate",
        "migrate",
        "What it would cost to make the rows of older built-in parts again; with --yes the next run does.",
    ),
    "migrate-state": Command(
        "migrate_state",
        "migrate_state",
        "Carry the state store to another, empty database; the old one is kept, marked as moved, "
        "and refused from then on.",
    ),
    "adapt": Command(
        "adapt",
        "adapt",
        "Fit the built-in classifier to documents of the collection without labels, in a file that its stage declares.",
    ),
    "status": Command("status", "status", "Partitions by state and documents by state, as last observed."),
    "doctor": Command(
        "doctor",
        "doctor",
        "Look at home, versions, database, bucket, endpoints, clocks, disk, daemons, keys, budgets and cluster.",
    ),
    "cost": Command(
        "cost",
        "cost",
        "Where the dollars went: paid, saved by reuse, maybe billed; what the money was for; the month's forecast.",
    ),
    "warehouse": Command("warehouse", "app", "The cost warehouse: its documentation, and sources for a dbt project."),
    "publish": Command(
        "releases", "publish", "Publish what is approved, now: the same Dagster run that the sensor asks for."
    ),
    "provider": Command(
        "provider",
        "provider",
        "Rehearse on a local server that speaks the OpenAI protocol, fails on demand and counts what would be billed.",
    ),
    "card": Command(
        "card",
        "card",
        "What is in a release, what made it, what was measured, who signed, what it cost, and its known limits.",
    ),
    "contract": Command(
        "contract",
        "contract",
        "What readers of a release are promised, whether it is kept, and as JSON Schema or dbt sources.",
    ),
    "evaluate": Command(
        "evaluate",
        "evaluate",
        "Show stored scores, and hold the declared gates against them; exit code 1 where one fails.",
    ),
    "verify": Command(
        "verify",
        "verify",
        "Check lake, released files, search indexes, model cards, warehouse and ledger against what was written.",
    ),
    "search": Command("documents", "search", "Search the live release: full text and vectors together."),
    "export": Command(
        "export",
        "export",
        "The live release as Parquet, JSON lines, a Delta or an Iceberg table, with labels, vectors and who signed.",
    ),
    "explain": Command(
        "documents",
        "explain",
        "Where a document comes from, step by step to the release and who signed, and what was made of it.",
    ),
    "touched": Command(
        "touched",
        "touched",
        "Which rows and releases a prompt, a model or a call touched, what that cost, and what a backfill would do.",
    ),
    "answer": Command(
        "answer",
        "answer",
        "An answer of a model: what was sent, what came back, what it cost, and the rows and releases that use it.",
    ),
    "forget": Command(
        "forget",
        "forget",
        "Erase the text of a document everywhere: lake, releases, index, answers of models, notes, events, backups.",
    ),
    "backup": Command("backup", "backup", "Copy the home while it is in use; only what is new is written."),
    "restore": Command("backup", "restore", "Put a backup in the place of a home that is empty, or that is set aside."),
    "deploy": Command("deploy", "app", "Manifests for Kubernetes, and the databases of a new version."),
    "scaffold": Command(
        "scaffold", "app", "Write a stage, a metric or a backend of your own, its test, and its declaration."
    ),
    "signoff": Command("signoff", "app", "What waits for sign-off, and decisions on it."),
    "shadow": Command(
        "shadow",
        "app",
        "Compare a changed prompt or route with what is live: ai-assets shadow COLLECTION --stage S --prompt FILE.",
    ),
    "corrections": Command("corrections", "app", "Labels that people gave in place of a model's."),
    "golden": Command("golden", "app", "What people say is right: labels that judge a stage."),
    "judge": Command("judge", "app", "What judges rate, and how far people agree."),
    "held": Command("held", "app", "Documents that wait for a person while the others go on."),
    "reviewers": Command("reviewers", "app", "Who may look, correct, decide and administer."),
    "releases": Command("releases", "app", "What is live, what was live, and the way back."),
    "targets": Command("targets", "app", "Where releases are written beside the index."),
    "retention": Command("retention", "app", "What is no longer needed, and what must be kept."),
    "ledger": Command("ledger", "app", "Calls to models: attempts, answers, dollars."),
    "budget": Command("budget", "app", "Budgets: where they stand, and their limits."),
    "inference": Command(
        "inference", "app", "Endpoints of inference.yaml: whether they work, what to change, how fast they are."
    ),
    "canary": Command("canary", "app", "Whether a model was changed under its name, and what was made since."),
    "batches": Command("batches", "app", "Batches at a provider: files of calls, at the price of its Batch API."),
    "audit": Command("audit", "app", "The trail of requests, decisions and releases."),
    "policy": Command("policy", "app", "Rules in Rego that may forbid to publish, to spend or to act."),
    "keys": Command("keys", "app", "The keys that sign the audit chain: files or variables, never rows."),
}


class LoadedCommands(Mapping[str, Any]):
    """Their names cost nothing; the module of a command is imported with its value."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _loaded(name, COMMANDS[name])
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class LazyGroup(TyperGroup):
    """What lists commands says what is stated here; who asks for one gets the command."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{**attributes, "commands": LoadedCommands()})

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with self._as_stated():
            super().format_commands(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        with self._as_stated():
            return super().shell_complete(ctx, incomplete)

    @contextmanager
    def _as_stated(self) -> Iterator[None]:
        loaded = self.commands
        self.commands = {name: TyperCommand(name, help=command.help) for name, command in COMMANDS.items()}
        try:
            yield
        finally:
            self.commands = loaded


def _loaded(name: str, command: Command) -> Any:
    with _no_garbage():
        found = getattr(importlib.import_module(f"ai_assets.cli.{command.module}"), command.attribute)
    around = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    if isinstance(found, typer.Typer):
        around.add_typer(found, name=name)
    else:
        around.command(name)(found)
    return get_group(around).commands[name]


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Modules stay for good: looking for garbage among them takes a sixth of the time that importing them takes."""
    looking = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looking:
            gc.enable()
