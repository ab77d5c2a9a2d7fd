"""The files that people write: whether each can be used as it is."""

from collections.abc import Callable, Iterator
from pathlib import Path

from ai_assets.base.errors import UserError
from ai_assets.doctor.findings import Finding, fine, noted, of_error, warned
from ai_assets.doctor.installation import CannotLook, Installation


def look(at: Installation) -> Iterator[Finding]:
    files: list[tuple[Path, Callable[[], object]]] = [
        (at.home.operations, lambda: at.operations),
        (at.home.inference, lambda: at.inference),
        (at.home.desk, lambda: at.desk),
    ]
    for path, read in files:
        yield _one(at, path, read)
    yield from _environment(at)
    yield from _collections(at)


def _one(at: Installation, path: Path, read: Callable[[], object]) -> Finding:
    try:
        read()
    except CannotLook as error:
        return of_error(str(path), at.problems.get(error.wrong, error))
    return fine(str(path), "as it should be" if path.exists() else "there is none, so the defaults hold")


def _environment(at: Installation) -> Iterator[Finding]:
    try:
        environment = at.environment
        assert at.home.state_url
    except CannotLook:
        return
    except UserError as error:
        yield of_error("environment", error)
    else:
        yield fine("environment", environment)


def _collections(at: Installation) -> Iterator[Finding]:
    found = at.collections
    for name, error in found.wrong.items():
        yield of_error(f"collection {name}", error)
    if found.loaded:
        named = ", ".join(list(found.loaded)[:5]) + (", ..." if len(found.loaded) > 5 else "")
        yield fine("collections", f"{len(found.loaded)} can be loaded: {named}")
    elif not found.wrong:
        yield noted("collections", found="there is none", fix="ai-assets new NAME --from FOLDER")
    try:
        assert at.inference
    except CannotLook:
        return
    from ai_assets.costs.scopes import doubts, located
    from ai_assets.inference.load import load_inference

    if at.tenant is None:
        for doubt in doubts(load_inference(at.home.inference), list(found.loaded.values())):
            yield warned(
                "budgets",
                found=located(at.home.inference, doubt),
                fix="Correct the name, or leave it where plain Dagster code calls under it.",
            )
