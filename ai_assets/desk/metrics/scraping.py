"""`/metrics`: found at most every ten seconds for each scraper, written in the text format of Prometheus (0.0.4)."""

import datetime
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING

import anyio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ai_assets.base.errors import StateUnavailable, UserError
from ai_assets.desk.address import Address
from ai_assets.desk.context import Desk
from ai_assets.desk.machine_paths import METRICS
from ai_assets.desk.metrics import families as of
from ai_assets.desk.metrics.families import FAMILIES, MetricFamily, MetricSample
from ai_assets.desk.metrics.request_load import RequestLoad
from ai_assets.desk.metrics.scrapers import Scraper, scraper_of, scrapers
from ai_assets.desk.metrics.slow_figures import (
    DAGSTER_S,
    PARTITIONS_S,
    WAREHOUSE_S,
    Renewed,
    dagster_figures,
    disk_figures,
    partition_figures,
    warehouse_figures,
)
from ai_assets.desk.metrics.state_figures import StateLook, state_figures
from ai_assets.inference.load import inference_at
from ai_assets.inference.recent_calls import RecentCallsMemory
from ai_assets.inference.settings import InferenceSettings

if TYPE_CHECKING:
    from prometheus_client.core import Metric

KEPT_S = 10.0
MOST_SERIES = 1000
"""Of one metric; models and endpoints that were ever declared are no secret way to fill a Prometheus."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass
class _Kept:
    text: bytes = b""
    at: float = float("-inf")
    lock: threading.Lock = field(default_factory=threading.Lock)


class DeskMetrics:
    """Of one process of the desk."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.load = RequestLoad()
        self.known = scrapers(desk.settings.metrics, desk.tenants())
        self._address = Address(desk.url)
        self._recent = RecentCallsMemory()
        self._kept: dict[str | None, _Kept] = {None: _Kept(), **{each.tenant: _Kept() for each in self.known}}
        self._everywhere = (
            Renewed(lambda: partition_figures(desk), PARTITIONS_S),
            Renewed(lambda: warehouse_figures(desk), WAREHOUSE_S),
            Renewed(lambda: dagster_figures(desk), DAGSTER_S),
        )

    def route(self) -> Route:
        return Route(METRICS, self._answer)

    async def _answer(self, request: Request) -> Response:
        scraper = scraper_of(request.scope, self.known, self._address, tenants_apart=bool(self.desk.tenants()))
        if scraper is None:
            sentence = "Metrics are for scrapers with a token: docs/observability.md\n"
            return PlainTextResponse(sentence, 401, {"WWW-Authenticate": 'Bearer realm="metrics"'})
        try:
            text = await anyio.to_thread.run_sync(self.text, scraper)
        except StateUnavailable:
            return PlainTextResponse("The desk cannot reach its state store.\n", 503)
        return Response(text, media_type=CONTENT_TYPE)

    def text(self, scraper: Scraper) -> bytes:
        kept = self._kept[scraper.tenant]
        with kept.lock:  # of several that ask at once, one looks
            if time.monotonic() - kept.at > KEPT_S:
                kept.text, kept.at = written(self.found(scraper)), time.monotonic()
            return kept.text

    def found(self, scraper: Scraper) -> list[MetricSample]:
        began = time.monotonic()
        desk, tenant = self.desk, scraper.tenant
        collections = {
            name: each for name, each in desk.collections().items() if tenant in (None, each.settings.tenant)
        }
        with desk.stores.state.read() as connection:
            look = StateLook(
                connection=connection, collections=collections, tenant=tenant, inference=self._inference(),
                recent=self._recent, moment=datetime.datetime.now(datetime.UTC),
            )  # fmt: skip
            samples = list(state_figures(look))
        took_s = time.monotonic() - began
        for renewed in self._everywhere:
            samples += [each for each in renewed.read() if _is_seen(each, tenant)]
        if tenant is None:
            samples += [*disk_figures(desk), *self.load.figures(), of.COLLECTED.of(took_s)]
            samples.append(of.BUILD.of(1, version("ai-assets")))
        return samples

    def _inference(self) -> InferenceSettings | None:
        try:
            return inference_at(self.desk.stores.home)
        except UserError:
            return None


def _is_seen(sample: MetricSample, tenant: str | None) -> bool:
    return tenant is None or (sample.family.for_tenants and sample.labels[0] == tenant)


def written(samples: Iterable[MetricSample]) -> bytes:
    from prometheus_client.exposition import generate_latest

    return generate_latest(_Collected(list(samples)))  # it asks for `collect` alone


@dataclass(frozen=True)
class _Collected:
    samples: list[MetricSample]

    def collect(self) -> "Iterator[Metric]":
        by_family: dict[str, list[MetricSample]] = {}
        for sample in self.samples:
            by_family.setdefault(sample.family.name, []).append(sample)
        left_out = [
            of.LEFT_OUT.of(len(found) - MOST_SERIES, name)
            for name, found in by_family.items()
            if len(found) > MOST_SERIES
        ]
        for name, family in FAMILIES.items():
            found = left_out if family is of.LEFT_OUT else by_family.get(name, [])
            if found:
                yield _metric(family, sorted(found, key=lambda each: -each.value)[:MOST_SERIES])


def _metric(family: MetricFamily, samples: list[MetricSample]) -> "Metric":
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    kind = CounterMetricFamily if family.is_counter else GaugeMetricFamily
    found = kind(family.name, family.help, labels=family.labels)
    for sample in sorted(samples, key=lambda each: each.labels):
        found.add_metric(sample.labels, sample.value)
    return found
