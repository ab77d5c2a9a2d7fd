"""The seam: what a check is. The built-in ones are written on it; `registry.py` knows them all.

A check looks at one dataset, which is one asset of one partition, after it is committed.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ai_assets.base.errors import OwnCodeFailed, UserError
from ai_assets.checks.errors import CheckFailed
from ai_assets.storage.digest import Json, canonical_json

if TYPE_CHECKING:
    import pyarrow as pa

    from ai_assets.collection.loading import Collection
    from ai_assets.run.context import Outcome, Work
    from ai_assets.storage.lake import Manifest


@dataclass(frozen=True, kw_only=True)
class CheckSpec:
    """One asset check, as Dagster shows it."""

    name: str
    asset: str
    description: str
    blocking: bool
    """Whether a failure may stop what is downstream."""


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What a check found."""

    passed: bool
    failures: Sequence[str] = ()
    """One sentence each; needed where it did not pass."""
    details: Mapping[str, Json] = field(default_factory=dict)
    """Numbers to plot and values to look at. `failing_rows`, a list of flat rows, becomes a table."""
    blocking: bool | None = None
    """Whether this failure stops what is downstream; None: as the spec says."""


@dataclass(frozen=True, kw_only=True)
class CheckOutcome:
    """One check of one asset of one partition, as Dagster and people are to see it."""

    asset: str
    partition: str
    name: str
    passed: bool
    blocking: bool
    """Whether a failure stops what is downstream."""
    failures: list[str]
    details: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The dataset that is looked at."""

    manifest: "Manifest"
    work: "Work"

    @property
    def asset(self) -> str:
        return self.manifest.asset

    @property
    def partition(self) -> str:
        return self.manifest.partition

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """A row group in memory at a time. Documents that were deleted are left out."""
        if self.asset != "documents":
            yield from self.work.rows(self.manifest, columns)
            return
        wanted = None if columns is None else list(dict.fromkeys([*columns, "status"]))
        for row in self.work.rows(self.manifest, wanted):
            if row["status"] != "deleted":
                yield row if columns is None else {name: row[name] for name in columns}

    def table(self, columns: Sequence[str] | None = None) -> "pa.Table":
        """All rows at once."""
        import pyarrow as pa

        rows = list(self.rows(columns))
        table = self.work.read(self.manifest, None if columns is None else list(columns))
        return pa.Table.from_pylist(rows, schema=table.schema) if len(rows) < table.num_rows else table


@dataclass(frozen=True, kw_only=True)
class CheckContext:
    """What the check runs in."""

    collection: "Collection"
    work: "Work"
    """The run's; for built-in checks. It is no part of what a check of one's own may rely on."""
    outcome: "Outcome | None" = None
    """What the run made of the asset; None where the check is run again before a candidate is made."""


class Check(ABC):
    """A kind of check."""

    use: str = ""
    """How defs.yaml names it; nothing for a built-in one."""
    stops_at_once = True
    """Whether a blocking failure ends the partition there and then, and not only its candidate."""

    @abstractmethod
    def spec(self, collection: "Collection") -> Sequence[CheckSpec]:
        """The assets of the collection that it looks at."""

    @abstractmethod
    def run(self, context: CheckContext, dataset: Dataset) -> CheckResult:
        """Look at one dataset."""

    def identity(self, collection: "Collection", asset: str) -> Json:
        """What its verdict depends on beside the dataset: on the same it is run once. None: it is run every time."""
        return None

    def refusal(self, outcome: CheckOutcome) -> UserError:
        """The error that ends the partition."""
        return CheckFailed(outcome.name, outcome.asset, outcome.failures)


CheckFunction = Callable[..., CheckResult]


def check(function: CheckFunction) -> CheckFunction:
    """Marks a function of a `CheckContext` and a `Dataset` as a check."""
    function.__ai_assets_check__ = True  # type: ignore[attr-defined]
    return function


@dataclass(frozen=True, kw_only=True)
class OwnCheck(Check):
    """A check of the user's own: a function, or an object that is a `Check` itself."""

    name: str
    use: str
    asset: str | None
    blocking: bool
    options: Mapping[str, Any]
    source_digest: str
    function: CheckFunction | None = None
    inner: Check | None = None

    def spec(self, collection: "Collection") -> Sequence[CheckSpec]:
        if self.inner is not None:
            return [replace(spec, blocking=spec.blocking or self.blocking) for spec in self.inner.spec(collection)]
        assert self.asset is not None
        said = (self.function.__doc__ or "").strip().partition("\n")[0]
        return [CheckSpec(name=self.name, asset=self.asset, description=said or self.use, blocking=self.blocking)]

    def run(self, context: CheckContext, dataset: Dataset) -> CheckResult:
        try:
            if self.inner is not None:
                found = self.inner.run(context, dataset)
            else:
                assert self.function is not None
                found = self.function(context, dataset, **self.options)
        except Exception as error:  # the user's own code: the check is named, and the partition fails
            raise OwnCodeFailed("check", self.use, f"{type(error).__name__}: {error}") from error
        if problem := _problem(found):
            raise OwnCodeFailed("check", self.use, problem)
        return found

    def identity(self, collection: "Collection", asset: str) -> Json:
        found: list[Json] = [self.use, self.source_digest, dict(self.options), self.blocking]
        return [*found, self.inner.identity(collection, asset)] if self.inner is not None else found


def _problem(found: object) -> str | None:
    if not isinstance(found, CheckResult):
        return f"it returned {found!r}; return CheckResult(passed=..., failures=[...])"
    if not isinstance(found.passed, bool):
        return f"passed is {found.passed!r}; it must be True or False"
    if not found.passed and not (found.failures and all(isinstance(said, str) for said in found.failures)):
        return "it did not pass and says nothing; give each failure a sentence under 'failures'"
    try:
        canonical_json(dict(found.details))
    except (TypeError, ValueError) as error:
        return f"its details are not JSON: {error}"
    return None
