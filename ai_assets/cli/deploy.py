"""`ai-assets deploy`: manifests for Kubernetes, and the databases brought to this version."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ai_assets.base.cluster import cluster_in
from ai_assets.base.home import Home
from ai_assets.base.plural import plural
from ai_assets.cli.output import all_collections, console, home

if TYPE_CHECKING:
    from ai_assets.deploy.plan import DeploymentPlan

app = typer.Typer(help="Manifests for Kubernetes, and the databases of a new version.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="Where the manifests go.", file_okay=False)]
Check = Annotated[bool, typer.Option("--check", help="Only say what differs; nothing is written.")]


@app.command("render")
def render(folder: Folder = Path("deploy"), check: Check = False) -> None:
    """Write what Kubernetes takes: Kustomize base, tenants and overlays, made of operations.yaml and `compute:`."""
    from ai_assets.deploy.rendering import refuse_different, rendered, write

    plan = _plan(home())
    files = rendered(plan)
    if check:
        refuse_different(folder, files)
        console.print(f"{folder} is what this project renders: {plural(len(files), 'file')}.")
        return
    changed = write(folder, files)
    console.print(
        f"{plural(len(files), 'file')} in {folder}, {len(changed)} changed. Apply them with: "
        f"kubectl apply -k {folder / 'overlays/production'}",
        soft_wrap=True,
    )


@app.command("migrate")
def migrate() -> None:
    """Bring our state store and Dagster's tables to this version; the Job of a rollout runs it before the rest."""
    from ai_assets.orchestration.instance import instance
    from ai_assets.storage.stores import Stores

    place = home()
    with Stores.at(place) as stores, stores.state.read():
        console.print("The state store is at this version.")
    with instance(place) as dagster:
        dagster.upgrade()
        console.print("Dagster's tables are at its version.")


def _plan(place: Home) -> "DeploymentPlan":
    from ai_assets.deploy.objects import PROJECT_FOLDER
    from ai_assets.deploy.plan import planned
    from ai_assets.desk.settings import load_desk
    from ai_assets.orchestration.code_location import code_locations
    from ai_assets.run.operations import load_operations

    load_operations(place.operations)  # as a whole: an unknown key is said, too
    found = code_locations(place.project)
    definitions = found[0].image_arguments(place.project, PROJECT_FOLDER) if found else []
    proxy = load_desk(place.desk).sign_in.proxy
    return planned(
        place.project,
        place.operations,
        cluster_in(place.operations),
        all_collections(),
        definitions,
        behind_proxy=proxy is not None,
    )
