"""`ai-assets scaffold`: files of one's own to begin with, each with a test that passes."""

import typer

from ai_assets.cli.scaffold_backend import scaffold_backend
from ai_assets.cli.scaffold_metric import scaffold_metric
from ai_assets.cli.scaffold_stage import scaffold_stage

app = typer.Typer(
    help="Write a stage, a metric or a backend of your own, its test, and its declaration.", no_args_is_help=True
)
app.command("stage")(scaffold_stage)
app.command("metric")(scaffold_metric)
app.command("backend")(scaffold_backend)
