"""The cost warehouse as events: days of the ledger that were copied, and the tables that dbt makes of them."""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

import sqlalchemy as sa
from openlineage.client.event_v2 import RunState

from ai_assets.base.home import Home, variable
from ai_assets.base.masking import masked
from ai_assets.costs.building import Building
from ai_assets.costs.day_rows import ATTEMPTS, REUSES
from ai_assets.costs.ledger_days import ExportedDay
from ai_assets.costs.marts import Model, assets_of_sources, in_order, models, raw_tables
from ai_assets.lineage.client import EventSender
from ai_assets.lineage.columns import ColumnOrigin
from ai_assets.lineage.events import DatasetRef, Maker
from ai_assets.lineage.sink import NAMESPACE, day_of, said_of
from ai_assets.lineage.table_origins import SqlUnread, table_origins
from ai_assets.storage.state import now

COSTS, DAYS, LEDGER = "costs", "inference_cost", "ledger"


class CostLineage:
    """Of one run, which may fail."""

    def __init__(self, home: Home, run_id: str, descriptions: dict[str, str], report: Callable[[str], None]) -> None:
        self._home, self._run_id = home, run_id
        self._maker = Maker(
            namespace=variable("OPENLINEAGE_NAMESPACE") or NAMESPACE,
            collection=COSTS,
            version=version("ai-assets"),
            owners=(),
            descriptions={**{model.name: model.description for model in models()}, **descriptions},
        )
        self._sender, self._report = EventSender(home, report), report

    def began(self) -> None:
        self._began_at = now()
        self._sender.put(self._maker.run_event(RunState.START, self._run_id, self._began_at))

    def ended(self, error: str | None) -> None:
        state = RunState.COMPLETE if error is None else RunState.FAIL
        self._sender.put(self._maker.run_event(state, self._run_id, now(), said_of(error)))

    def close(self) -> None:
        self._sender.close()

    def copied(self, days: Sequence[ExportedDay]) -> None:
        """Those that this run copied; of one that was as before nothing is new."""
        columns = {each.name: str(each.type) for rows in (REUSES, ATTEMPTS) for each in rows.schema()}
        for day in days:
            if self._run_id in (day.attempts.run_id, day.reuses.run_id):
                rows = day.attempts.rows + day.reuses.rows
                output = DatasetRef(asset=DAYS, version=day.version, rows=rows, columns=columns)
                self._made(output, [self._ledger()], partition=day.day)

    def built(self, done: Building) -> None:
        if done.unchanged:
            return
        rows = {mart.name: mart.rows for mart in done.marts}
        by_name = {model.name: model for model in models()}
        for name in in_order(models()):
            if name in rows:
                model = by_name[name]
                output = DatasetRef(
                    asset=name, version=done.fingerprint, rows=rows[name], file_format="duckdb",
                    columns={column: kind for column, (kind, _) in model.columns.items()},
                    origins=self._origins(model, done.sql.get(name, "")),
                    location=(f"duckdb://{self._warehouse}", f"{self._home.warehouse.stem}.{model.schema}.{name}"),
                )  # fmt: skip
                self._made(output, self._inputs(model))
        for test in done.tests:
            self.judged(test.model, test.name, passed=test.passed, of_version=done.fingerprint)

    def judged(self, model: str, test: str, *, passed: bool, said: str = "", of_version: str = "") -> None:
        """What a test of dbt found; a table that fails one is not swapped in."""
        self._sender.put(
            self._maker.check_event(
                now(), run_id=self._run_id, partition="", of=DatasetRef(asset=model, version=of_version), name=test,
                passed=passed, blocking=True, said=said_of(said) or "",
            )
        )  # fmt: skip

    def _made(self, output: DatasetRef, inputs: Sequence[DatasetRef], partition: str = "") -> None:
        for state, at in ((RunState.START, self._began_at), (RunState.COMPLETE, now())):
            self._sender.put(
                self._maker.asset_event(
                    state, at, run_id=self._run_id, partition=partition, output=output, inputs=inputs,
                    day=day_of(partition),
                )
            )  # fmt: skip

    def _origins(self, model: Model, sql: str) -> Mapping[str, Sequence[ColumnOrigin]]:
        """Nothing of SQL that is not understood, which stops no run."""
        try:
            return table_origins(model, sql, models(), raw_tables(), DAYS)
        except SqlUnread as error:
            self._report(str(error))
            return {}

    def _inputs(self, model: Model) -> list[DatasetRef]:
        """Tables before it; of what dbt is given, the copied days, and the ledger's own tables beside them."""
        found = [DatasetRef(asset=name) for name in model.models]
        copied = assets_of_sources()
        if any(source in copied for source in model.sources):
            found.append(DatasetRef(asset=DAYS))
        if any(source not in copied for source in model.sources):
            found.append(self._ledger())
        return found

    def _ledger(self) -> DatasetRef:
        return DatasetRef(asset=LEDGER, is_of_others=True, location=location_of_ledger(self._home.state_url))

    @property
    def _warehouse(self) -> str:
        """Where it is for all: a bucket, where the data is in one."""
        if self._home.data_url is None:
            return str(self._home.warehouse)
        return f"{masked(self._home.data_url).rstrip('/')}/{self._home.warehouse.parent.name}"


def location_of_ledger(state_url: str) -> tuple[str, str]:
    """As others name it, without a password."""
    url = sa.make_url(state_url)
    if url.get_backend_name() == "sqlite":
        return "file", url.database or ""
    return f"postgres://{url.host or 'localhost'}:{url.port or 5432}", f"{url.database}.public.attempts"
