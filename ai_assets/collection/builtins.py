"""Versions of the built-in parts that make rows, so that a better one voids nothing by itself.

A collection declares how old its rows may be; rows that are there stay current, and new ones are made by the newest
version. `ai-assets migrate` raises the declaration, and only that makes old rows again.
"""

from pydantic import ValidationInfo, field_validator

from ai_assets.base.yaml_settings import Strict, nearest
from ai_assets.documents.chunk import CHUNKER_VERSION
from ai_assets.documents.parse import PARSER_VERSION
from ai_assets.storage.search_rules import NEWEST_RULES

VERSIONS: dict[str, tuple[str, ...]] = {
    "parser": ("1", PARSER_VERSION),
    "chunker": ("1", CHUNKER_VERSION),
    "classifier": ("1", "2"),
    "search": ("1", NEWEST_RULES),
}
"""All that have made rows, or have ranked what search finds; the oldest first. A better version is appended; its
predecessors stay for good."""


def newest(part: str) -> str:
    return VERSIONS[part][-1]


def newer(part: str, one: str, other: str) -> str:
    """Of two versions."""
    return max(one, other, key=VERSIONS[part].index)


def since(part: str, version: str) -> tuple[str, ...]:
    """That version and all after it."""
    return VERSIONS[part][VERSIONS[part].index(version) :]


class BuiltinSettings(Strict):
    """By which version of each part a row may have been made and still be current."""

    parser: str = VERSIONS["parser"][0]
    chunker: str = VERSIONS["chunker"][0]
    classifier: str = VERSIONS["classifier"][0]
    search: str = VERSIONS["search"][0]
    """By which rules words and vectors become one ranking; see `docs/retrieval.md`."""

    @field_validator("parser", "chunker", "classifier", "search")
    @classmethod
    def _known(cls, version: str, info: ValidationInfo) -> str:
        part = str(info.field_name)
        if version not in VERSIONS[part]:
            hint = nearest(version, list(VERSIONS[part]))
            raise ValueError(f"this version of ai-assets has no {part} '{version}'{hint}. A newer one may have")
        return version

    @property
    def older(self) -> dict[str, tuple[str, str]]:
        """By part, what is declared and what would be the newest, where these differ."""
        return {part: (getattr(self, part), newest(part)) for part in VERSIONS if getattr(self, part) != newest(part)}
