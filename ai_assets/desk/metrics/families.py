"""Every metric there is: its name, what it says, and by what it is told apart.

A label is a collection, tenant, endpoint, model or a word of ours, never a document, prompt, partition, run or person.
"""

from dataclasses import dataclass

PREFIX = "ai_assets_"


@dataclass(frozen=True, kw_only=True)
class MetricSample:
    family: "MetricFamily"
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True, kw_only=True)
class MetricFamily:
    name: str
    help: str
    labels: tuple[str, ...] = ()
    is_counter: bool = False

    def of(self, value: float, *labels: str) -> MetricSample:
        assert len(labels) == len(self.labels), self.name
        return MetricSample(family=self, labels=labels, value=value)

    @property
    def for_tenants(self) -> bool:
        """Whether a scraper of one tenant gets those of its own; what is of no tenant it does not get at all."""
        return "tenant" in self.labels


FAMILIES: dict[str, MetricFamily] = {}


def _gauge(name: str, says: str, *labels: str) -> MetricFamily:
    return _added(MetricFamily(name=PREFIX + name, help=says, labels=labels))


def _counter(name: str, says: str, *labels: str) -> MetricFamily:
    return _added(MetricFamily(name=f"{PREFIX}{name}_total", help=says, labels=labels, is_counter=True))


def _added(family: MetricFamily) -> MetricFamily:
    FAMILIES[family.name] = family
    return family


_COLLECTION = ("tenant", "collection")

REVIEWS = _gauge("reviews_waiting", "Requests for sign-off that are open", *_COLLECTION)
OLDEST = _gauge("review_oldest_age_seconds", "Age of the oldest open request", *_COLLECTION)
OVERDUE = _gauge(
    "reviews_overdue", "Open requests older than the hours after which somebody is reminded, or it escalates",
    *_COLLECTION, "step",
)  # fmt: skip

PARTITIONS = _gauge("partitions", "Partitions by state, as `ai-assets status` has it", *_COLLECTION, "state")
DUE = _gauge("partitions_due", "Partitions that a run would change", *_COLLECTION)

RELEASE_NUMBER = _gauge("release_number", "Number of the live release", *_COLLECTION)
RELEASE_AGE = _gauge("release_age_seconds", "Time since the live release was made", *_COLLECTION)
DOCUMENT_COST = _gauge(
    "published_document_cost_dollars", "All that a collection cost, over its published documents (warehouse)",
    *_COLLECTION,
)  # fmt: skip

_ACCOUNT = ("tenant", "budget", "holder")
BUDGET_LIMIT = _gauge("budget_limit_dollars", "Limit in force of a budget, in its present period", *_ACCOUNT)
BUDGET_USED = _gauge("budget_used_dollars", "Spent, and held for what may have been billed", *_ACCOUNT)
BUDGET_LEFT = _gauge("budget_left_dollars", "What further calls may reserve", *_ACCOUNT)

MAYBE = _gauge("maybe_billed_dollars", "Reserved for attempts that may have been billed", "tenant", "endpoint")
MAYBE_CALLS = _gauge("maybe_billed_attempts", "Attempts that may have been billed", "tenant", "endpoint")

RECENT = _gauge("recent_attempts", "Attempts sent in the last ten minutes, by what came of them",
                "tenant", "endpoint", "class")  # fmt: skip
RECENT_ERRORS = _gauge("recent_errors", "Those that failed, by error class", "tenant", "endpoint", "error")
RECENT_DOLLARS = _gauge("recent_spend_dollars", "Paid for attempts of the last ten minutes",
                        "tenant", "endpoint", "model")  # fmt: skip
RECENT_TOKENS = _gauge("recent_tokens", "Tokens of those attempts", "tenant", "endpoint", "model", "kind")
RECENT_SPEND = _gauge("recent_collection_spend_dollars", "The same dollars by collection", *_COLLECTION)
SAVED = _gauge("recent_saved_dollars", "What answers cost once that were used again in the last ten minutes",
               *_COLLECTION)  # fmt: skip

LATENCY = _gauge("endpoint_latency_seconds", "Of the answers of the last ten minutes, over all processes",
                 "endpoint", "kind", "quantile")  # fmt: skip
BREAKER = _gauge("endpoint_breaker_open", "1 while an endpoint that failed is left alone or probed", "endpoint")
IN_FLIGHT = _gauge("endpoint_calls_in_flight", "Requests that hold a place", "endpoint")
PLACES = _gauge("endpoint_places", "Requests that it takes at once, as declared", "endpoint")
WAITING = _gauge("endpoint_calls_waiting", "Calls that have asked for a place", "tenant", "endpoint", "party")

AUDIT = _gauge("audit_records", "Length of the audit chain")
CHECKPOINT_RECORDS = _gauge("audit_checkpoint_records", "Records under the newest checkpoint")
CHECKPOINT_AGE = _gauge("audit_checkpoint_age_seconds", "Age of the newest checkpoint")

DISK_FREE = _gauge("disk_free_bytes", "Free on the disk of the home")
DISK_SIZE = _gauge("disk_size_bytes", "Size of the disk of the home")

DAGSTER_UP = _gauge("dagster_up", "1 where Dagster's pages answer the desk")
HEARTBEAT = _gauge("daemon_heartbeat_age_seconds", "Since a daemon of Dagster last gave a sign of life", "daemon")
RUNS = _gauge("runs", "Runs that are queued, starting or executing", "status")
RUNS_FAILED = _gauge("runs_failed_recently", "Runs of the last 24 hours that failed or were interrupted")

REQUESTS = _counter("desk_requests", "Requests answered by this process of the desk, probes and scrapes apart")
BUSY = _counter("desk_busy_seconds", "Time in them; its rate is how many are under way at once")
UNDER_WAY = _gauge("desk_requests_under_way", "Requests that this process is answering")

LEFT_OUT = _gauge("series_left_out", "Series beyond the most that a metric has; the largest values are kept", "metric")
COLLECTED = _gauge("collecting_seconds", "What it took to read all of this from the state store")
BUILD = _gauge("build_info", "1, with the version of ai-assets", "version")
