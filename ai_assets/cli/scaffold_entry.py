"""What `ai-assets scaffold` writes of a user's own code: files, and their entry in a declaration."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml

from ai_assets.base.collection_files import DEFS_FILE
from ai_assets.base.yaml_settings import read_yaml
from ai_assets.cli.errors import ScaffoldRefused, StageNotWritable
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.inference.errors import InferenceInvalid


def write_declared(name: str, collection: Collection, files: Mapping[Path, str], entry: str, under: str) -> Path:
    """All files and the entry in the collection's declaration, or none of them. Returns the declaration."""
    declared = collection.folder / DEFS_FILE
    after = with_entry(declared, declared.read_text(encoding="utf-8"), entry, under)
    write_all(name, files, {declared: after}, lambda: load_collection(collection.folder.parent, collection.name))
    return declared


def write_all(name: str, files: Mapping[Path, str], declared: Mapping[Path, str], load: Callable[[], object]) -> None:
    """New files, and declarations with something added. A new file that is there is never written over; where `load`
    refuses what was declared, all is as it was."""
    for path in files:
        if path.exists():
            raise ScaffoldRefused(name, f"{path} exists already; nothing was changed")
    before = {path: path.read_text(encoding="utf-8") for path in declared if path.exists()}
    try:
        for path, text in {**files, **declared}.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        load()
    except BaseException:
        for path in {**files, **declared}:
            if path in before:
                path.write_text(before[path], encoding="utf-8")
            else:
                path.unlink(missing_ok=True)
        raise


def with_entry(path: Path, text: str, entry: str, under: str) -> str:
    """The declaration with one more item under that key, and everything else of it, comments too, as it was."""
    attributes = _attributes(path, entry, f"add {under}: [{entry}] there")
    lines = text.splitlines()
    indent = " " * attributes.value[0][0].start_mark.column
    listed = value_of(attributes, under)
    if listed is None:
        place = end_of(attributes, lines)
        added = [f"{indent}{under}:", f"{indent}  - {entry}"]
    elif isinstance(listed, yaml.SequenceNode) and not listed.flow_style and listed.value:
        place = end_of(listed, lines)
        added = [f"{' ' * listed.start_mark.column}- {entry}"]
    else:
        raise ScaffoldRefused(entry, f"'{under}' in {path} is not a list of lines; add {entry} there")
    return with_lines(lines, place, added)


def with_key(path: Path, text: str, key: str, value: str) -> str:
    """The declaration with that attribute, in place of the line it had before where it had one."""
    entry = f"{key}: {value}"
    attributes = _attributes(path, entry, f"write {entry} there")
    lines = text.splitlines()
    line = f"{' ' * attributes.value[0][0].start_mark.column}{entry}"
    before = value_of(attributes, key)
    if before is None:
        return with_lines(lines, end_of(attributes, lines), [line])
    if before.start_mark.line != before.end_mark.line:
        raise ScaffoldRefused(entry, f"'{key}' in {path} is written over several lines; write {entry} there")
    lines[before.start_mark.line] = line
    return "\n".join(lines) + "\n"


def with_stage_key(path: Path, text: str, stage: str, key: str, value: str) -> str:
    """The declaration with that key of a stage, in place of the value it had before where it had one, and everything
    else of it, comments too, as it was."""
    entry = f"{key}: {value}"
    node, _ = read_yaml(path, CollectionInvalid)
    stages = value_of(value_of(node, "attributes") or node, "stages") if node is not None else None
    listed = stages.value if isinstance(stages, yaml.SequenceNode) else []
    found = next(
        (each for each in listed if (name := value_of(each, "name")) is not None and name.value == stage), None
    )
    if not isinstance(found, yaml.MappingNode) or found.flow_style:
        raise StageNotWritable(path, stage, entry)
    lines = text.splitlines()
    before = value_of(found, key)
    if before is not None:
        start, end = before.start_mark, before.end_mark
        if not isinstance(before, yaml.ScalarNode) or start.line != end.line:
            raise StageNotWritable(path, stage, entry)
        line = lines[start.line]
        lines[start.line] = line[: start.column] + value + line[end.column :]
        return "\n".join(lines) + "\n"
    name, said = next((each, said) for each, said in found.value if each.value == "name")
    return with_lines(lines, said.end_mark.line + 1, [f"{' ' * name.start_mark.column}{entry}"])


def _attributes(path: Path, entry: str, advice: str) -> yaml.MappingNode:
    node, _ = read_yaml(path, CollectionInvalid)
    found = value_of(node, "attributes")
    if not isinstance(found, yaml.MappingNode) or found.flow_style:
        raise ScaffoldRefused(entry, f"the attributes of {path} are not written as a block; {advice}")
    return found


def with_endpoint(name: str, path: Path, entry: str, *, before_the_first: str = "", after_the_first: str = "") -> str:
    """`inference.yaml` with one more endpoint, and everything else of it, comments too, as it was."""
    if not path.exists():
        return f"{before_the_first}endpoints:\n{_indented(entry, 2)}{after_the_first}"
    node, _ = read_yaml(path, InferenceInvalid)
    text = path.read_text(encoding="utf-8")
    endpoints = value_of(node, "endpoints")
    if endpoints is None and (node is None or (isinstance(node, yaml.MappingNode) and not node.flow_style)):
        return f"{text.rstrip()}\n\nendpoints:\n{_indented(entry, 2)}".lstrip()
    if not isinstance(endpoints, yaml.MappingNode) or endpoints.flow_style or not endpoints.value:
        raise ScaffoldRefused(name, f"'endpoints' in {path} is not written as a block; add there:\n{entry.rstrip()}")
    if value_of(endpoints, name) is not None:
        raise ScaffoldRefused(name, f"{path} has an endpoint of that name")
    lines = text.splitlines()
    added = _indented(entry, endpoints.value[0][0].start_mark.column).splitlines()
    return with_lines(lines, end_of(endpoints, lines), added)


def _indented(entry: str, columns: int) -> str:
    return "".join(f"{' ' * columns}{line}\n" for line in entry.splitlines())


def with_lines(lines: Sequence[str], place: int, added: Sequence[str]) -> str:
    return "\n".join([*lines[:place], *added, *lines[place:]]) + "\n"


def value_of(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    found: yaml.Node | None = next((value for name, value in node.value if name.value == key), None)
    return found


def end_of(node: yaml.Node, lines: list[str]) -> int:
    """The line after its last one that is neither empty nor a comment."""
    end = node.end_mark.line + (1 if node.end_mark.column else 0)
    while end > 0 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return end
