"""Packages and programs that only some of what is declared needs."""

import importlib.util
import shutil
from collections.abc import Iterator

from ai_assets.base.environment import CLUSTER, LOCAL
from ai_assets.base.errors import UserError
from ai_assets.base.extras import EXTRAS, need
from ai_assets.collection.loading import Collection
from ai_assets.doctor.findings import Finding, fine, noted, of_error, wrong
from ai_assets.doctor.installation import CannotLook, Installation
from ai_assets.local_models.presence import why_not_here
from ai_assets.local_models.spec import AUTO, extra_of


def look(at: Installation) -> Iterator[Finding]:
    needed = dict(_extras(at))
    for extra, why in needed.items():
        try:
            need(extra, why)
        except UserError as error:
            yield of_error(f"extra {extra}", error)
    absent = [extra for extra in EXTRAS if extra not in needed and not _is_there(extra)]
    said = f"those that are needed are there ({', '.join(needed) or 'none'})"
    yield fine("extras", f"{said}; not installed: {', '.join(absent) or 'none'}")
    yield from _devices(at)
    yield from _programs(at)


def _is_there(extra: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in EXTRAS[extra])


def _extras(at: Installation) -> Iterator[tuple[str, str]]:
    """What is declared needs them."""
    yield "desk", "The desk"
    if at.environment != LOCAL:
        yield "postgres", f"`environment: {at.environment}`"
    if at.environment == CLUSTER:
        yield "cluster", "`environment: cluster`"
    if at.home.data_url is not None:
        yield "s3", "AI_ASSETS_DATA_URL"
    for name, found in at.collections.loaded.items():
        if found.settings.source.ocr is not None:
            yield "ocr", f"source.ocr of collection '{name}'"
        if found.settings.quality:
            yield "quality", f"The expectations of collection '{name}'"
        for _, backend, _ in _loaded_here(found):
            yield extra_of(backend), f"The backend '{backend}' of collection '{name}'"
    if any(witness.timestamp for witness in at.desk.checkpoints.witnesses):
        yield "timestamps", "A witness with `timestamp`"


def _loaded_here(found: Collection) -> Iterator[tuple[str, str, str]]:
    """Asset, backend and device of each model that runs load themselves."""
    for each in found.embeddings:
        if each.settings.is_local:
            yield each.asset, each.settings.backend, each.settings.device or AUTO
    for stage in found.labelling:
        if stage.is_local:
            yield stage.name, stage.backend, stage.device or AUTO
    if (rerank := found.settings.rerank) is not None and rerank.backend is not None:
        yield "rerank", rerank.backend, rerank.device or AUTO


def _devices(at: Installation) -> Iterator[Finding]:
    """In a cluster the pods of runs have them, and not this machine."""
    if at.environment == CLUSTER:
        return
    for name, found in at.collections.loaded.items():
        for asset, backend, device in _loaded_here(found):
            if _is_there(extra_of(backend)) and (said := why_not_here(backend, device)):
                why, _, remedy = said.partition("; ")
                yield wrong(f"device of {name}/{asset}", found=why, fix=f"{remedy[:1].upper()}{remedy[1:]}.")


def _programs(at: Installation) -> Iterator[Finding]:
    for name, found in at.collections.loaded.items():
        ocr = found.settings.source.ocr
        if ocr is not None:
            yield _program("tesseract", f"source.ocr of collection '{name}'", "apt-get install tesseract-ocr")
            break
    try:
        witnesses = at.desk.checkpoints.witnesses
    except CannotLook:
        return
    if any(witness.git for witness in witnesses):
        yield _program("git", "a witness with `git`", "apt-get install git")
    for program, package in (("ssh-keygen", "openssh-client"), ("minisign", "minisign")):
        if shutil.which(program) is None:
            yield noted(
                f"program {program}",
                found="it is not installed; decisions on the command line are signed with such a key only where it is",
                fix=f"apt-get install {package}, if anybody needs it.",
            )


def _program(name: str, why: str, remedy: str) -> Finding:
    if (path := shutil.which(name)) is not None:
        return fine(f"program {name}", f"{path}, for {why}")
    return wrong(f"program {name}", found=f"it is missing, and {why} needs it", fix=remedy)
