"""All files of a rendering, and how a folder differs from it."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from ai_assets.base.durable import write_whole
from ai_assets.deploy.errors import RenderingDiffers, RenderingUnwritable
from ai_assets.deploy.helm import helm_values
from ai_assets.deploy.namespace_files import namespace_files
from ai_assets.deploy.plan import DeploymentPlan
from ai_assets.deploy.shared_files import shared_files
from ai_assets.deploy.yaml_text import RenderedFile, kustomization

OURS = ("base", "tenants", "overlays", "monitoring", "helm")
"""Folders in which nothing else is kept."""


def rendered(plan: DeploymentPlan) -> Mapping[str, str]:
    """By path, the text of every file."""
    files = [*shared_files(plan)]
    for namespace in plan.namespaces:
        files += namespace_files(plan, namespace)
    files += _kustomizations(plan, [each.path for each in files])
    files.append(helm_values(plan))
    return {each.path: each.text for each in sorted(files, key=lambda each: each.path)}


def _kustomizations(plan: DeploymentPlan, paths: list[str]) -> Iterator[RenderedFile]:
    folders = ["base", *(f"tenants/{each.tenant}" for each in plan.tenants)]
    optional = ["monitoring"] if plan.cluster.monitoring_namespace is not None else []
    for folder in (*folders, *optional):
        own = sorted(path.removeprefix(f"{folder}/") for path in paths if path.startswith(f"{folder}/"))
        own.sort(key=lambda name: name != "namespace.yaml")
        yield RenderedFile(path=f"{folder}/kustomization.yaml", objects=(kustomization(own),))
    image, _, tag = plan.image.rpartition(":")
    pinned = [{"name": image or plan.image, **({"newTag": tag} if image else {})}]
    above = [f"../../{folder}" for folder in folders]
    yield RenderedFile(
        path="overlays/production/kustomization.yaml",
        objects=(kustomization(above, images=pinned),),
        comment="All of it. Your own patches belong into a folder of yours that names this one as a resource.",
    )
    alone = [_one_replica("ai-assets-web"), _one_replica("ai-assets-desk")]
    yield RenderedFile(
        path="overlays/trial/kustomization.yaml",
        objects=(kustomization(above, images=pinned, patches=alone),),
        comment="The same with one replica of each page, for a cluster on one machine.",
    )


def _one_replica(name: str) -> dict[str, object]:
    patch = "- op: replace\n  path: /spec/minReplicas\n  value: 1\n"
    return {"target": {"kind": "HorizontalPodAutoscaler", "name": name}, "patch": patch}


def write(folder: Path, files: Mapping[str, str]) -> list[str]:
    """The paths that were changed; files of an earlier rendering that are no more are removed."""
    try:
        return _written(folder, files)
    except OSError as error:
        raise RenderingUnwritable(folder, error) from error


def _written(folder: Path, files: Mapping[str, str]) -> list[str]:
    changed = []
    for path, text in files.items():
        target = folder / path
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_whole(target, text.encode())
            changed.append(path)
    for path in _left_over(folder, files):
        (folder / path).unlink()
        if not any((folder / path).parent.iterdir()):
            (folder / path).parent.rmdir()
        changed.append(path)
    return changed


def refuse_different(folder: Path, files: Mapping[str, str]) -> None:
    found = []
    for path, text in files.items():
        target = folder / path
        if not target.is_file():
            found.append(f"{path} is missing")
        elif (there := target.read_text(encoding="utf-8")) != text:
            found.append(f"{path} differs from line {_first_difference(there, text)} on")
    found += [f"{path} is rendered no more" for path in _left_over(folder, files)]
    if found:
        raise RenderingDiffers(folder, found)


def _first_difference(there: str, wanted: str) -> int:
    ours, theirs = wanted.splitlines(), there.splitlines()
    return next(
        (n for n, (a, b) in enumerate(zip(ours, theirs, strict=False), 1) if a != b), min(len(ours), len(theirs)) + 1
    )


def _left_over(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Files that we wrote, by their first line, and would not write now."""
    from ai_assets.deploy.yaml_text import HEADER

    found = [path for name in OURS for path in sorted((folder / name).rglob("*.yaml"))]
    return [
        name
        for path in found
        if (name := path.relative_to(folder).as_posix()) not in files and path.read_text("utf-8").startswith(HEADER)
    ]
