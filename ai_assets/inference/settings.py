"""What a user may write in `inference.yaml`: endpoints, routes, retries, budgets. No I/O."""

import datetime
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, PrivateAttr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ai_assets.base.device_names import DeviceName
from ai_assets.base.hosts import is_host
from ai_assets.base.kinds import EMBED, STAGE_KINDS
from ai_assets.base.tenants import NO_TENANTS, Tenants
from ai_assets.base.window_settings import Windows, hours_of
from ai_assets.base.windows import WeeklyHours
from ai_assets.base.yaml_settings import Strict, nearest, refuse, wrong
from ai_assets.extensions import Options
from ai_assets.inference.canary_settings import CanarySettings
from ai_assets.inference.price_hours import wrong_hours
from ai_assets.inference.records import RETRYABLE, ErrorClass, RequestKind
from ai_assets.inference.share_settings import Shares

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=60)]
REHEARSAL = "rehearsal"
"""As `base_url`: the rehearsal provider. A run starts one for itself unless AI_ASSETS_REHEARSAL_URL names one."""
EDIT_ME = "edit-me"
"""What `ai-assets new --route` writes where a person has to fill something in."""
EDIT_ME_URL = "https://edit-me.invalid/v1"
NO_FALLBACK: Mapping[ErrorClass, str] = {
    "malformed": "a request that is wrong is wrong everywhere",
    "unhashable": "a request that is wrong is wrong everywhere",
    "auth": "a wrong key is to be mended, not walked around",
    "refused": "content that one provider will not answer is for a person to look at",
    "context_too_long": "a rule with 'longer_than_tokens' sends a long request to the right endpoint at once",
    "invalid_output": "the answer was paid for, and a second model would be paid for guessing again",
    "not_run": "the next batch has it",
    "in_batch": "its batch brings the answer",
    "outside_window": "a route takes those of its endpoints that are open",
    "held": "a person decides first whether it was paid for",
    "budget": "what is used up at one endpoint is used up at the next",
}
"""Why the next endpoint is not tried after an error of this class."""


DEFAULT_TIER = "default"
BATCH_TIER = "batch"
Tier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]


MOST_USD_PER_MILLION = 100_000
"""A larger price is a slip, and its calls no number of nano-dollars that every database can hold."""


class TokenPrice(Strict):
    """US dollars per million tokens, from a date on."""

    from_: datetime.date = Field(alias="from")
    tier: Tier = DEFAULT_TIER
    """The tier of service that it is the price of, as the provider's answers name it."""
    input: float = Field(ge=0, le=MOST_USD_PER_MILLION)
    cached_input: float | None = Field(default=None, ge=0, le=MOST_USD_PER_MILLION)
    """Without it cached tokens cost as much as others."""
    output: float = Field(default=0.0, ge=0, le=MOST_USD_PER_MILLION)
    windows: Windows = ()
    """The hours in which it holds, instead of the one of that date and tier that has none."""

    @cached_property
    def hours(self) -> WeeklyHours:
        return hours_of(self.windows)

    @cached_property
    def version(self) -> str:
        """What the ledger notes of a call's price: `2026-01-01 0.15/0.075/0.6`, input, cached input and output.

        With a tier: `2026-01-01 flex 0.075/-/0.3`. With hours: `2026-01-01 [daily 16:30-00:30 UTC] 0.075/-/0.3`.
        """
        tier = "" if self.tier == DEFAULT_TIER else f"{self.tier} "
        tier += f"[{self.hours.said}] " if self.hours else ""
        return f"{self.from_} {tier}{_plain(self.input)}/{_plain(self.cached_input)}/{_plain(self.output)}"


def _plain(usd: float | None) -> str:
    return "-" if usd is None else format(Decimal(str(usd)).normalize(), "f")


class EndpointLimits(Strict):
    """Held over all processes that share the state store."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    concurrency: int = Field(default=64, ge=1, le=1000)
    """Calls in flight at once; fewer while the provider answers 429."""
    interactive_places: int | None = Field(default=None, ge=0, le=1000)
    """Of those, how many only interactive calls may take; without it an eighth, while there are such calls."""

    @model_validator(mode="after")
    def _leaves_some(self) -> Self:
        if self.interactive_places is not None and self.interactive_places >= self.concurrency:
            said = f"it leaves no place for other calls: 'concurrency' is {self.concurrency}"
            raise wrong(said, "interactive_places")
        return self

    @property
    def kept_for_interactive(self) -> int:
        if self.interactive_places is not None:
            return self.interactive_places
        return max(self.concurrency // 8, 1) if self.concurrency > 1 else 0


BATCH_FILL = 0.95
"""Of the provider's limit of bytes: what a shard takes, for providers count the form around the file too."""


BatchWire = Literal["openai", "together"]


class BatchSettings(Strict):
    """What the provider's Batch API takes and costs; see docs/batch.md for providers."""

    price_share: float | None = Field(default=None, gt=0, le=1)
    """What a line costs of the endpoint's price: `0.5` is half. Not needed where `prices` has one of `tier: batch`."""
    prefix: str = Field(default="/v1", pattern=r"^(/[A-Za-z0-9._-]+)*$", max_length=100)
    """Before the path in each line: `/v1`, or empty."""
    wire: BatchWire = "openai"
    """Whose Batch API it speaks: Together's has other requests and answers, and takes chats alone."""
    max_lines: int = Field(default=50_000, ge=1, le=1_000_000)
    max_mb: float = Field(default=200.0, gt=0, le=2000)
    """Megabytes (millions of bytes) of one file."""
    enqueued_tokens: int | None = Field(default=None, ge=1)
    """Input tokens that may be in the provider's queue at once; more waits here."""
    minutes_p50: float = Field(default=7.0, gt=0, le=1440)
    """How many minutes half of its batches take, before any was seen; for stages that have a deadline."""
    minutes_p90: float = Field(default=60.0, gt=0, le=2880)
    """The same of 90 %."""

    @model_validator(mode="after")
    def _believes_in_order(self) -> Self:
        if self.minutes_p90 <= self.minutes_p50:
            raise wrong(f"it must be more than 'minutes_p50' ({self.minutes_p50:g})", "minutes_p90")
        return self

    @property
    def most_bytes(self) -> int:
        return int(self.max_mb * 1_000_000 * BATCH_FILL)


class Endpoint(Strict):
    """A model at a provider."""

    protocol: str = Field(default="openai", min_length=1)
    """A built-in one, `module:name` of your own, or the entry point of an installed package."""
    options: Options = Field(default={})
    """What the protocol knows beside the rest."""
    base_url: str
    """Such as `https://api.openai.com/v1`, or `rehearsal`."""
    key: str | None = None
    """The environment variable that holds the key; never the key itself."""
    llm: str = Field(alias="model", min_length=1)
    tier: Tier | None = None
    """The tier of service that is asked for, such as `flex`; without it none is named."""
    tier_fallback: bool = True
    """Where the tier has no room: ask the same endpoint without it."""
    prices: tuple[TokenPrice, ...] = ()
    free: bool = False
    """Own hardware: calls cost nothing."""
    errors_are_free: bool = False
    """The provider documents that a request it answers with an error is not billed."""
    key_id: str | None = Field(default=None, min_length=1, max_length=200)
    """The provider's public name of the key, as in its usage exports."""
    key_exclusive: bool = False
    """Nothing but this ledger calls with that key, so that the provider's totals prove what it billed."""
    windows: Windows = ()
    """When it may be asked, but by somebody who waits (`interactive`) and by batches; without it at any time."""
    limits: EndpointLimits = EndpointLimits()
    shares: Shares = Field(default={})
    """Of those limits, by collection or tenant, where several want them at once."""
    timeout_s: float = Field(default=60.0, gt=0, le=3600)
    max_answer_mb: float = Field(default=64.0, gt=0, le=4096)
    """What goes on beyond it is not read: a server that never ends would fill the memory of the run."""
    patience_s: float = Field(default=300.0, gt=0, le=604_800)
    """How long it may fail without one answer before the work that has no other endpoint stops."""
    image_tokens: int = Field(default=2000, ge=0)
    """The most tokens that one image can cost; for the reservation."""
    structured: Literal["json_schema", "json_object", "none", "vllm", "vllm_choice"] = "json_schema"
    """How it is told to answer in JSON; whatever it is, answers are checked here."""
    logprobs: bool = True
    """Whether it can say how probable its tokens were."""
    texts_per_request: int = Field(default=64, ge=1, le=2048)
    """How many texts to embed may share a request; each is a call of its own in the ledger."""
    output_limit: Literal["max_completion_tokens", "max_tokens"] = "max_tokens"
    """The name of the parameter that limits the output."""
    batch: BatchSettings | None = None
    """Stages of `tier: batch` send their calls to its Batch API."""
    canary: CanarySettings | None = None
    """A fixed set that is asked on a schedule, to notice a model that was changed under its name."""
    tokenizer: str | None = Field(default=None, min_length=1)
    """The `tokenizer.json` of the model, relative to this file: with it a plan counts input tokens exactly."""

    @cached_property
    def hours(self) -> WeeklyHours:
        return hours_of(self.windows)

    @cached_property
    def priced_by_hour(self) -> bool:
        return any(price.hours for price in self.prices)

    @property
    def unedited(self) -> tuple[str, ...]:
        """Keys that still hold what a scaffold wrote; such an endpoint is never called."""
        held = (("base_url", self.base_url == EDIT_ME_URL), ("model", self.llm == EDIT_ME))
        return tuple(key for key, is_so in held if is_so)

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if value == REHEARSAL:
            return value
        return _normal_url(value)

    @field_validator("key", mode="before")
    @classmethod
    def _names_a_variable(cls, value: Any) -> Any:
        if value is not None and not (isinstance(value, str) and _VARIABLE.fullmatch(value) and not _KEY.search(value)):
            raise ValueError(
                "should be the name of an environment variable, such as OPENAI_API_KEY, and never a key itself "
                "(what was found is not shown)"
            )
        return value

    @field_validator("key_id", mode="before")
    @classmethod
    def _is_no_key(cls, value: Any) -> Any:
        if isinstance(value, str) and _SECRET.search(value):
            raise ValueError(
                "should be the public id that the provider shows for the key, such as key_abc123, and never the key "
                "itself (what was found is not shown)"
            )
        return value

    @model_validator(mode="after")
    def _clear(self) -> Self:
        refuse(self._unclear())
        return self

    def _unclear(self) -> Iterator[PydanticCustomError]:
        if self.key_exclusive and self.key_id is None:
            yield wrong("an exclusive key needs its 'key_id', by which the provider's exports name it", "key_exclusive")
        if self.free and self.prices:
            yield wrong("an endpoint whose calls are free has no 'prices'", "free")
        priced = self.free or any(price.tier == "batch" for price in self.prices)
        if self.batch is not None and self.batch.price_share is None and not priced:
            yield wrong("say what a line costs of the endpoint's price, such as 'price_share: 0.5'", "batch")
        if self.batch is not None and self.protocol != "openai":
            yield wrong(f"only the protocol 'openai' has batches, and this one is '{self.protocol}'", "batch")
        yield from wrong_hours(self.prices, BATCH_TIER, DEFAULT_TIER)
        if self.tier is not None and (problem := self.unpriced(self.tier)) is not None:
            yield wrong(problem, "tier")

    def has_batches_of(self, kind: RequestKind) -> bool:
        return self.batch is not None and (kind == "chat" or self.batch.wire == "openai")

    def unpriced(self, tier: str) -> str | None:
        """Why calls cannot be asked of it at this tier: what they cost is not known."""
        known = {price.tier for price in self.prices}
        if self.free or not {tier, DEFAULT_TIER} - known:
            return None
        if tier not in known:
            return f"no price of the tier '{tier}' is declared; add one to 'prices' with tier: {tier}"
        return f"an answer may be served without the tier '{tier}', so 'prices' needs one without a tier too"


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY = re.compile(r"^(?:sk|pk|gsk|hf|ghp|r8)_|^(?:AIza|AKIA|eyJ)|(?=[A-Za-z]*\d)[A-Za-z0-9]{16}")
"""What real keys begin with, or sixteen letters and digits in one piece: no variable is called that."""
_SECRET = re.compile(r"^(?:sk|pk|gsk|hf|ghp|r8|xai)[-_]|^(?:AIza|AKIA|eyJ)")
"""What real keys begin with. Ids of keys are long and random too, so their length tells nothing."""


def _normal_url(value: str) -> str:
    """Without the slash at the end, so that a path can be added. What may hold a secret is not repeated."""
    if "@" in value:
        raise ValueError("a URL with a user or password in it; name the variable that holds the key under 'key'")
    if "://" not in value:
        example = "it should be such as https://api.openai.com/v1, or rehearsal"
        raise ValueError(f"no URL{nearest(value, [REHEARSAL], example)}")
    if "?" in value or "#" in value:
        raise ValueError("a URL with '?' or '#' in it; a path such as /chat/completions is added at its end")
    try:
        parts = urlsplit(value)
        usable = bool(parts.hostname) and parts.port != 0 and not re.search(r"\s", value)
    except ValueError:
        usable = False
    if not usable or parts.scheme not in ("http", "https"):
        raise ValueError(f"'{value}' is not such as https://api.openai.com/v1")
    if not is_host(parts.hostname or ""):
        raise ValueError(f"'{parts.hostname}' is no name of a host: between its dots are 1 to 63 characters each")
    path = parts.path.rstrip("/")
    for added in ("/chat/completions", "/completions", "/embeddings"):
        if path.endswith(added):
            raise ValueError(f"'{value}' should end before {added}, which is added to it")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _repeated(values: Iterable[object]) -> Iterator[int]:
    """The places of values that were there before."""
    seen = set()
    for number, value in enumerate(values):
        if value in seen:
            yield number
        seen.add(value)


class Device(Strict):
    """A processor or GPU that models run on here, and what it costs."""

    usd_per_hour: float | None = Field(default=None, ge=0, le=100_000)
    """Of the time in which a model is loaded or computes; in the ledger, and in no budget."""
    free: bool = False
    """Own hardware that is there anyway."""
    exclusive: bool | None = None
    """One process at a time holds it, over all that share the state store; by default a GPU is, and `cpu` is not."""
    idle_s: float = Field(default=30.0, ge=0, le=86_400)
    """After so long without a text the model is unloaded and the device given back."""
    wait_s: float = Field(default=3600.0, ge=0, le=604_800)
    """How long a process waits for a device that another one holds."""
    batch_tokens: int | None = Field(default=None, ge=1, le=16_777_216)
    """The most tokens of one batch, padding included; less where memory runs out. Without it what is usual there."""
    windows: Windows = ()
    """When it may be taken, but by somebody who waits (`interactive`); without it at any time."""

    @cached_property
    def hours(self) -> WeeklyHours:
        return hours_of(self.windows)

    @model_validator(mode="after")
    def _is_priced(self) -> Self:
        if self.free == (self.usd_per_hour is not None):
            said = "both" if self.free else "neither"
            raise ValueError(f"a device has either 'usd_per_hour' or 'free: true', and this one has {said}")
        return self


class RouteRule(Strict):
    """Puts an endpoint first when its condition holds."""

    use: str
    longer_than_tokens: int | None = Field(default=None, ge=1)
    """The request is longer (estimated)."""
    slower_than_s: float | None = Field(default=None, gt=0)
    """The first endpoint of the route took longer than this for 1 in 20 of its recent answers."""

    @model_validator(mode="after")
    def _has_one_condition(self) -> Self:
        found = [c for c in (self.longer_than_tokens, self.slower_than_s) if c is not None]
        if len(found) != 1:
            said = "both" if found else "neither"
            raise ValueError(f"a rule has either 'longer_than_tokens' or 'slower_than_s', and this one has {said}")
        return self


class Route(Strict):
    """Endpoints in the order in which they are tried."""

    endpoints: tuple[str, ...] = Field(min_length=1)
    fallback_on: tuple[ErrorClass, ...] = (*sorted(RETRYABLE), "too_large", "quota")
    """After which errors, once retries are used up, the next endpoint is tried."""
    rules: tuple[RouteRule, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse(self._inconsistent())
        return self

    def _inconsistent(self) -> Iterator[PydanticCustomError]:
        for number in _repeated(self.endpoints):
            yield wrong(f"endpoint '{self.endpoints[number]}' is named twice", "endpoints", number)
        for number, rule in enumerate(self.rules):
            if rule.use not in self.endpoints:
                hint = nearest(rule.use, list(self.endpoints))
                yield wrong(f"'{rule.use}' is no endpoint of this route{hint}", "rules", number, "use")
        for number, error in enumerate(self.fallback_on):
            if error in NO_FALLBACK:
                yield wrong(f"no fallback after '{error}': {NO_FALLBACK[error]}", "fallback_on", number)


class RetryRule(Strict):
    """How often and how patiently; the wait is random up to base x 2^n, at most cap, at least Retry-After."""

    attempts: int = Field(default=6, ge=1, le=100)
    """In all, the first one included, on one endpoint."""
    base_s: float = Field(default=0.5, ge=0, le=60)
    cap_s: float = Field(default=30.0, ge=0, le=3600)

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if {"base_s", "cap_s"} <= self.model_fields_set and self.cap_s < self.base_s:
            raise wrong(f"it must be at least 'base_s' ({self.base_s:g})", "cap_s")
        return self


Dimension = Literal["tenant", "collection", "asset"]
USUAL_ALERTS = (50, 80, 100)
OF_TENANT = "tenant-"
"""What the names of the budgets begin with that tenants are declared with."""
BACKFILL = "backfill"
"""The name of the budgets that backfills have for themselves."""
MOST_USD = 1e9
"""A larger limit is a slip, and no whole number of nano-dollars that every database can hold."""


class Budget(Strict):
    """Money that calls may reserve and spend; reserved before a request leaves."""

    name: Name
    limit_usd: float = Field(ge=0, le=MOST_USD)
    per: Literal["day", "month"] | None = None
    """UTC; without it, for good."""
    of: dict[Dimension, str] = Field(default={})
    """Only calls for these count."""
    each: Literal["tenant", "collection", "asset", "partition", "run", "document"] | None = None
    """A budget of its own for each of these."""
    alert_at: tuple[Annotated[int, Field(ge=1, le=100)], ...] | None = None
    """Percent of the limit at which people are told; without it those of `alerts`."""
    notify: tuple[str, ...] = ()
    """Channels of desk.yaml that are told."""
    _tenants_apart: bool = PrivateAttr(default=False)
    _is_of_operations: bool = PrivateAttr(default=False)

    @property
    def is_of_operations(self) -> bool:
        """Declared with a tenant in operations.yaml, not in inference.yaml."""
        return self._is_of_operations

    @property
    def is_among_tenants(self) -> bool:
        """Tenants are declared, and it counts calls of several: its sums are not shown to one of them."""
        return self._tenants_apart and self.each is None and not self.of.keys() & {"tenant", "collection"}

    def with_tenants_apart(self) -> Self:
        found = self.model_copy()
        found._tenants_apart = True
        return found

    @property
    def alerts(self) -> tuple[int, ...]:
        """Of the many small ones nobody wants to hear unless they say so."""
        if self.alert_at is not None:
            return self.alert_at
        return () if self.each in ("run", "document", "partition") else USUAL_ALERTS

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name == BACKFILL:
            raise ValueError(f"'{BACKFILL}' is what the budgets of backfills are called; choose another name")
        return name

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse([*self._wrong_alerts(), *self._divides_nothing()])
        return self

    def _wrong_alerts(self) -> Iterator[PydanticCustomError]:
        for number, (before, percent) in enumerate(pairwise(self.alert_at or ()), start=1):
            if percent <= before:
                yield wrong(f"should be more than the {before} before it (found {percent})", "alert_at", number)
        for twice in _repeated(self.notify):
            yield wrong(f"channel '{self.notify[twice]}' is named twice", "notify", twice)

    def _divides_nothing(self) -> Iterator[PydanticCustomError]:
        for dimension, value in self.of.items():
            if not value:
                yield wrong("should have at least 1 characters", "of", dimension)
            elif dimension == self.each:
                yield wrong(f"it counts only the {dimension} '{value}', so there is no other to count apart", "each")
        if self.each == "tenant" and "collection" in self.of:
            yield wrong(f"it counts only the collection '{self.of['collection']}', and that has one tenant", "each")


def _budgets_of(tenants: Tenants) -> Iterator[Budget]:
    for name, declared in tenants.declared.items():
        if (budget := declared.budget) is not None:
            found = Budget(
                name=f"{OF_TENANT}{name}", limit_usd=budget.limit_usd, per=budget.per, of={"tenant": name},
                notify=budget.notify,
            )  # fmt: skip
            found._is_of_operations = True
            yield found


class InferenceSettings(Strict):
    model_config = ConfigDict(hide_input_in_errors=True)

    endpoints: dict[Name, Endpoint] = Field(default={})
    routes: dict[Name, Route] = Field(default={})
    retries: dict[str, dict[ErrorClass, RetryRule]] = Field(default={})
    """By kind of stage, then by class of error; what is not said here has the defaults of docs/inference.md."""
    retry_share: float = Field(default=0.5, gt=0, le=1)
    """Retries may be at most this share of first attempts; beyond it they wait."""
    budgets: tuple[Budget, ...] = ()
    devices: dict[DeviceName, Device] = Field(default={})
    """Where models run that are loaded here; `cuda` is each GPU, `cuda:1` that one. An unnamed `cpu` is free."""
    _missing: Path | None = PrivateAttr(default=None)
    _tenants: Tenants = PrivateAttr(default=NO_TENANTS)

    @property
    def tenants(self) -> Tenants:
        """Those that share the installation, as `operations.yaml` declares them."""
        return self._tenants

    def under(self, tenants: Tenants) -> Self:
        """With their budgets and their shares of every endpoint."""
        if not tenants:
            return self
        shares = {name: declared.share for name, declared in tenants.declared.items()}
        found = self.model_copy(
            update={
                "budgets": tuple(budget.with_tenants_apart() for budget in (*self.budgets, *_budgets_of(tenants))),
                "endpoints": {name: each.model_copy(update={"shares": shares | each.shares})
                              for name, each in self.endpoints.items()},
            }
        )  # fmt: skip
        found._tenants = tenants
        return found

    @property
    def missing(self) -> Path | None:
        """The file that does not exist, where these settings are those of none."""
        return self._missing

    def lacking(self, path: Path) -> Self:
        self._missing = path
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse(self._inconsistent())
        return self

    def _inconsistent(self) -> Iterator[PydanticCustomError]:
        for name, route in self.routes.items():
            if name in self.endpoints:
                yield wrong("an endpoint has that name, and a request names either; choose another", "routes", name)
            for number, endpoint in enumerate(route.endpoints):
                if endpoint not in self.endpoints:
                    hint = nearest(endpoint, list(self.endpoints), "none is declared" if not self.endpoints else None)
                    yield wrong(f"unknown endpoint '{endpoint}'{hint}", "routes", name, "endpoints", number)
        yield from self._wrong_keys()
        kinds = ("all", *STAGE_KINDS, EMBED)
        for kind, rules in self.retries.items():
            if kind not in kinds:
                yield wrong(f"'{kind}' is no kind of stage{nearest(kind, list(kinds))}", "retries", kind)
            for error in rules:
                if error not in RETRYABLE:
                    known = nearest(error, sorted(RETRYABLE))
                    yield wrong(f"'{error}' is never tried again{known}", "retries", kind, error)
        names = [budget.name for budget in self.budgets]
        for twice in _repeated(names):
            yield wrong(f"budget '{names[twice]}' is declared twice", "budgets", twice, "name")

    def _wrong_keys(self) -> Iterator[PydanticCustomError]:
        """One key has one id, and it is exclusive or not, wherever it is named."""
        ids: dict[str, tuple[str, str]] = {}
        exclusive: dict[str, tuple[str, bool]] = {}
        for name, endpoint in self.endpoints.items():
            if endpoint.key_id is None:
                continue
            if endpoint.key is not None:
                other, known = ids.setdefault(endpoint.key, (name, endpoint.key_id))
                if known != endpoint.key_id:
                    said = f"endpoint '{other}' calls the key of {endpoint.key} '{known}', and one key has one id"
                    yield wrong(said, "endpoints", name, "key_id")
            other, alone = exclusive.setdefault(endpoint.key_id, (name, endpoint.key_exclusive))
            if alone != endpoint.key_exclusive:
                said = f"endpoint '{other}' has the same key_id and says {str(alone).lower()}"
                yield wrong(said, "endpoints", name, "key_exclusive")
