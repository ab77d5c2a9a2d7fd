"""All commands together, and the one place where an error becomes a sentence and an exit code."""

import platform
import sys
from pathlib import Path
from typing import Annotated

import typer

from ai_assets.base import structured_log
from ai_assets.base.errors import AiAssetsError
from ai_assets.cli import (
    adapt,
    answer,
    audit,
    backfill,
    backup,
    batches,
    budget,
    corrections,
    cost,
    deploy,
    desk,
    doctor,
    documents,
    forget,
    golden,
    held,
    inference,
    keys,
    ledger,
    migrate,
    migrate_state,
    new,
    plan,
    policy,
    provider,
    releases,
    retention,
    reviewers,
    run,
    scaffold,
    shadow,
    signoff,
    status,
    up,
    verify,
)
from ai_assets.cli.output import errors, home, led

app = typer.Typer(
    name="ai-assets",
    help="Dagster assets for AI document pipelines: traced to bytes, model, dollars and the person who signed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(
            f"ai-assets {version('ai-assets')} (Dagster {version('dagster')}, Python {platform.python_version()})"
        )
        raise typer.Exit


@app.callback()
def location(
    module: Annotated[
        str | None, typer.Option("--module", "-m", help="Module with the Dagster definitions, to find collections in.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="The same as a Python file.", exists=True, dir_okay=False)
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is, and end.")
    ] = False,
) -> None:
    """By default collections are found as the definitions recorded them, or through what the project declares."""
    if module or file:
        from ai_assets.orchestration.code_location import CodeLocation

        CodeLocation(project=home().project, module=module, file=file.absolute() if file else None).load()


app.command("up")(up.up)
app.command("desk")(desk.desk)
app.command("new")(new.new)
app.command("plan")(plan.plan)
app.command("run")(run.run)
app.command("backfill")(backfill.backfill)
app.command("migrate")(migrate.migrate)
app.command("migrate-state")(migrate_state.migrate_state)
app.command("adapt")(adapt.adapt)
app.command("status")(status.status)
app.command("doctor")(doctor.doctor)
app.command("cost")(cost.cost)
app.command("publish")(releases.publish)
app.command("provider")(provider.provider)
app.command("verify")(verify.verify)
app.command("search")(documents.search)
app.command("explain")(documents.explain)
app.command("answer")(answer.answer)
app.command("forget")(forget.forget)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.add_typer(deploy.app, name="deploy")
app.add_typer(scaffold.app, name="scaffold")
app.add_typer(signoff.app, name="signoff")
app.add_typer(shadow.app, name="shadow")
app.add_typer(corrections.app, name="corrections")
app.add_typer(golden.app, name="golden")
app.add_typer(held.app, name="held")
app.add_typer(reviewers.app, name="reviewers")
app.add_typer(releases.app, name="releases")
app.add_typer(retention.app, name="retention")
app.add_typer(ledger.app, name="ledger")
app.add_typer(budget.app, name="budget")
app.add_typer(inference.app, name="inference")
app.add_typer(batches.app, name="batches")
app.add_typer(audit.app, name="audit")
app.add_typer(policy.app, name="policy")
app.add_typer(keys.app, name="keys")
reviewers.app.add_typer(keys.own, name="key")


def main() -> None:
    """Exit code 0: done; 1: something failed; 2: a mistake that its message says how to mend."""
    try:
        structured_log.begin("command")
        app()
    except AiAssetsError as error:
        errors.print(led("error:", "bold red", f" {error}"))
        sys.exit(2)
