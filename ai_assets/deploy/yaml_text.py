"""Objects as YAML with comments: the same objects give the same bytes."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import yaml

HEADER = "# Written by `ai-assets deploy render`. Change operations.yaml or defs.yaml, or patch it in an overlay.\n"


@dataclass(frozen=True, kw_only=True)
class RenderedFile:
    path: str
    objects: tuple[dict[str, Any], ...]
    comment: str = ""
    notes: dict[int, str] = field(default_factory=dict)
    """By place of the object, what stands above it."""

    @property
    def text(self) -> str:
        parts = [f"{_as_comment(self.notes.get(number, ''))}{dumped(each)}" for number, each in enumerate(self.objects)]
        return HEADER + _as_comment(self.comment) + "---\n".join(parts)


class _Plain(yaml.SafeDumper):
    """Without aliases, which people do not write; several lines as they are."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _lines(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Plain.add_representer(str, _lines)


def dumped(data: object) -> str:
    found: str = yaml.dump(data, Dumper=_Plain, sort_keys=False, width=110, allow_unicode=True)
    return found


def _as_comment(text: str) -> str:
    return "".join(f"# {line}\n" for line in text.splitlines())


def kustomization(resources: Iterable[str], **parts: Any) -> dict[str, Any]:
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [*resources],
        **parts,
    }
