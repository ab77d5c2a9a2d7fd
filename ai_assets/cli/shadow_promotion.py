"""Making a compared variant the declared one: its prompt file is written, a route is a patch for a person to apply."""

import difflib
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ai_assets.base.collection_files import DEFS_FILE
from ai_assets.base.durable import write_whole
from ai_assets.cli.scaffold_entry import with_stage_key
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.shadow.errors import PromotionRefused
from ai_assets.shadow.spec import Shadow, VariantSpec
from ai_assets.shadow.variants import comparable_stage, declared_file, digest_of
from ai_assets.stages.base import PromptStage

_VERSION = re.compile(rb"^(version:[ \t]*)(['\"]?)([^\r\n#]*?)\2([ \t]*(?:#[^\r\n]*)?)(\r?)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Promotion:
    variant: str
    written: Path | None
    """The prompt file that has the new text now."""
    version: str | None
    """Of the prompt, as it is written."""
    declared: Path | None
    """The declaration, where it names the file now."""
    patch: str
    """Of the declaration, for another route; empty where there is none."""


def chosen_variant(shadow: Shadow, wanted: str | None) -> VariantSpec:
    """The named one, the winner, or the only one."""
    known = [each.name for each in shadow.spec.variants]
    if shadow.results is None:
        raise PromotionRefused(shadow.name, "not all of it was asked; give its command again")
    name = wanted or shadow.results.verdict.winner or (known[0] if len(known) == 1 else None)
    if name is None:
        raise PromotionRefused(shadow.name, f"it has no winner; name one with --variant: {', '.join(known)}")
    if name not in known:
        raise PromotionRefused(shadow.name, f"it has no variant '{name}'; it compared {', '.join(known)}")
    return next(each for each in shadow.spec.variants if each.name == name)


def promote(collection: Collection, shadow: Shadow, variant: VariantSpec) -> Promotion:
    stage = comparable_stage(collection, shadow.spec.stage)
    _require_unchanged(collection, stage, shadow, variant)
    declared = collection.folder / DEFS_FILE
    patch = "" if variant.route is None else _patch(declared, stage, variant.route)
    if variant.prompt is None:
        return Promotion(variant=variant.name, written=None, version=None, declared=None, patch=patch)
    text, version = _with_version(Path(variant.prompt).read_bytes(), variant.version, shadow.spec.declared_version)
    path = collection.folder / (stage.prompt or f"prompts/{stage.name}.md")
    if stage.prompt is None and path.exists():
        raise PromotionRefused(shadow.name, f"the stage declares no prompt, and {path} is there already; declare it")
    before = declared.read_bytes()
    with ExitStack() as undo:
        path.parent.mkdir(parents=True, exist_ok=True)
        undo.callback(_put_back, path, path.read_bytes() if path.is_file() else None)
        write_whole(path, text)
        if stage.prompt is None:
            name = path.relative_to(collection.folder).as_posix()
            undo.callback(_put_back, declared, before)
            write_whole(declared, with_stage_key(declared, before.decode(), stage.name, "prompt", name).encode())
        load_collection(collection.folder.parent, collection.name)
        undo.pop_all()
    named = declared if stage.prompt is None else None
    return Promotion(variant=variant.name, written=path, version=version, declared=named, patch=patch)


def _require_unchanged(collection: Collection, stage: PromptStage, shadow: Shadow, variant: VariantSpec) -> None:
    spec, path = shadow.spec, declared_file(collection, stage)
    if stage.prompt != spec.declared_prompt or (stage.route or "") != spec.declared_route:
        found = f"the prompt or the route that stage '{stage.name}' declares was changed since"
        raise PromotionRefused(shadow.name, f"{found}; compare again")
    if digest_of(path) != spec.declared_digest:
        raise PromotionRefused(shadow.name, f"{path} was changed since it was compared; compare again")
    if variant.prompt is None:
        return
    new = Path(variant.prompt)
    if not new.is_file():
        raise PromotionRefused(shadow.name, f"the file that was compared, {new}, is not there any more")
    if digest_of(new) != variant.prompt_digest:
        raise PromotionRefused(shadow.name, f"{new} was changed since it was compared; compare again")


def _with_version(text: bytes, version: str, before: str) -> tuple[bytes, str]:
    """A prompt with another text has another version: a row says by which it was made."""
    if version != before:
        return text, version
    bumped = _next(before)
    changed, number = _VERSION.subn(
        lambda found: found[1] + found[2] + bumped.encode() + found[2] + found[4] + found[5], text, count=1
    )
    return (changed, bumped) if number else (text, version)


def _next(version: str) -> str:
    """2 after 1, 1.11 after 1.10, draft-2 after draft."""
    found = re.search(r"\d+$", version)
    return f"{version[: found.start()]}{int(found[0]) + 1}" if found else f"{version}-2"


def _patch(declared: Path, stage: PromptStage, route: str) -> str:
    before = declared.read_text(encoding="utf-8")
    after = with_stage_key(declared, before, stage.name, "route", route)
    name = f"{declared.parent.name}/{declared.name}"
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    return "".join(difflib.unified_diff(old, new, f"a/collections/{name}", f"b/collections/{name}"))


def _put_back(path: Path, before: bytes | None) -> None:
    if before is None:
        path.unlink(missing_ok=True)
    elif path.read_bytes() != before:
        write_whole(path, before)
