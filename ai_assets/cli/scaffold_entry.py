"""What `ai-assets scaffold` writes of a user's own code: files, and their entry in a collection's `defs.yaml`."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from ai_assets.base.yaml_settings import read_yaml
from ai_assets.collection.loading import DEFS_FILE, Collection, load_collection
from ai_assets.errors import CollectionInvalid, ScaffoldRefused


def write_declared(name: str, collection: Collection, files: Mapping[Path, str], entry: str, under: str) -> Path:
    """All files and the entry, or none of them: a file that is there is never written over. Returns the declaration."""
    for path in files:
        if path.exists():
            raise ScaffoldRefused(name, f"{path} exists already; nothing was changed")
    declared = collection.folder / DEFS_FILE
    before = declared.read_text(encoding="utf-8")
    after = with_entry(declared, before, entry, under)
    for path, text in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    declared.write_text(after, encoding="utf-8")
    try:
        load_collection(collection.folder.parent, collection.name)
    except CollectionInvalid:
        for path in files:
            path.unlink()
        declared.write_text(before, encoding="utf-8")
        raise
    return declared


def with_entry(path: Path, text: str, entry: str, under: str) -> str:
    """The declaration with one more item under that key, and everything else of it, comments too, as it was."""
    node, _ = read_yaml(path, CollectionInvalid)
    attributes = _value(node, "attributes")
    if not isinstance(attributes, yaml.MappingNode) or attributes.flow_style:
        raise ScaffoldRefused(
            entry, f"the attributes of {path} are not written as a block; add {under}: [{entry}] there"
        )
    lines = text.splitlines()
    indent = " " * attributes.value[0][0].start_mark.column
    listed = _value(attributes, under)
    if listed is None:
        place = _end(attributes, lines)
        added = [f"{indent}{under}:", f"{indent}  - {entry}"]
    elif isinstance(listed, yaml.SequenceNode) and not listed.flow_style and listed.value:
        place = _end(listed, lines)
        added = [f"{' ' * listed.start_mark.column}- {entry}"]
    else:
        raise ScaffoldRefused(entry, f"'{under}' in {path} is not a list of lines; add {entry} there")
    return "\n".join([*lines[:place], *added, *lines[place:]]) + "\n"


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    found: yaml.Node | None = next((value for name, value in node.value if name.value == key), None)
    return found


def _end(node: yaml.Node, lines: list[str]) -> int:
    """The line after its last one that is neither empty nor a comment."""
    end = node.end_mark.line + (1 if node.end_mark.column else 0)
    while end > 0 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return end
