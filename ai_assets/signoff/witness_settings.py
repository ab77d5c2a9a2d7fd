"""What may be written under `checkpoints:` in `desk.yaml`."""

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from ai_assets.base.yaml_settings import Strict, wrong
from ai_assets.documents.source import without_credentials

WITNESS_KINDS = ("file", "s3", "git", "channel", "timestamp")


class WitnessSettings(Strict):
    """Who else holds the checkpoints of the audit chain: one of `file`, `s3`, `git`, `channel` and `timestamp`."""

    file: str | None = None
    """A file to which notes are appended or, where it ends with / or is one, a folder that gets a file per note."""
    s3: str | None = None
    """`s3://bucket/prefix`, also with `?region=` and `?endpoint_override=`; the credentials are in the environment."""
    lock_days: int | None = Field(default=None, ge=1)
    """With `s3`: nobody can delete a note for so long (Object Lock in compliance mode)."""
    git: str | None = None
    """A repository here, in which each note is a commit that is pushed where it has a remote; or the address of one."""
    channel: str | None = None
    """The name of a channel."""
    timestamp: str | None = None
    """Address of a time stamp authority (RFC 3161)."""
    certificates: Path | None = None
    """With `timestamp`: PEM file of the certificates that its answers must be signed under."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        found = [kind for kind in WITNESS_KINDS if getattr(self, kind) is not None]
        if len(found) != 1:
            raise ValueError(f"declare one of {', '.join(WITNESS_KINDS)} (found: {', '.join(found) or 'none'})")
        if self.lock_days is not None and self.s3 is None:
            raise wrong("belongs to a witness with 's3'", "lock_days")
        if self.certificates is not None and self.timestamp is None:
            raise wrong("belongs to a witness with 'timestamp'", "certificates")
        return self

    @field_validator("s3")
    @classmethod
    def _without_credentials(cls, url: str | None) -> str | None:
        if url is not None and (not url.startswith("s3://") or "@" in url.partition("?")[0]):
            raise ValueError("write s3://bucket/prefix; the credentials go into AWS_ACCESS_KEY_ID and its companions")
        return url

    @field_validator("timestamp")
    @classmethod
    def _address(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ValueError(f"'{url}' is no web address")
        return url

    @property
    def kind(self) -> str:
        return next(kind for kind in WITNESS_KINDS if getattr(self, kind) is not None)

    @property
    def name(self) -> str:
        """As people see it, and as the state store knows it: nothing that could be a secret."""
        return f"{self.kind} {without_credentials(getattr(self, self.kind))}"


class CheckpointSettings(Strict):
    """Of the audit chain: how often they are made, beside those after each release, and who else gets them."""

    every_minutes: float = Field(default=60, gt=0)
    witnesses: tuple[WitnessSettings, ...] = ()

    @field_validator("witnesses")
    @classmethod
    def _distinct(cls, witnesses: tuple[WitnessSettings, ...]) -> tuple[WitnessSettings, ...]:
        names = [witness.name for witness in witnesses]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"'{twice[0]}' is declared twice")
        return witnesses
