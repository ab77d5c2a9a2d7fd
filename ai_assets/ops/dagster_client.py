"""A small client of the Dagster web server: launch a backfill, follow it, and ask whether everything is well."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from ai_assets.base.errors import UserError

if TYPE_CHECKING:
    from requests import Session

BackfillStatus = Literal[
    "REQUESTED", "COMPLETED", "FAILED", "CANCELED", "CANCELING", "FAILING", "COMPLETED_SUCCESS", "COMPLETED_FAILED"
]
RunStatus = Literal[
    "QUEUED", "NOT_STARTED", "MANAGED", "STARTING", "STARTED", "SUCCESS", "FAILURE", "CANCELING", "CANCELED"
]

CANDIDATE = "release_candidate"
"""An asset that every collection has."""

_UNREACHABLE = "DagsterUserCodeUnreachableError"
_DAGSTER_FRAME = re.compile(r'File ".*/(?:dagster\w*|site-packages|importlib|lib/python[\d.]+)/')
_FRAME = re.compile(r'File "(?P<file>[^"<]+)", line (?P<line>\d+)')

_LAUNCH = """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on Error { message } } }"""
_BACKFILL = """query($id: String!) { partitionBackfillOrError(backfillId: $id) { __typename ... on Error { message }
  ... on PartitionBackfill { id status numPartitions error { message }
    assetBackfillData { assetBackfillStatuses {
      ... on AssetPartitionsStatusCounts { numPartitionsMaterialized numPartitionsFailed }
      ... on UnpartitionedAssetStatus { materialized failed } } } } } }"""
_CANCEL = """mutation($id: String!) { cancelPartitionBackfill(backfillId: $id) {
  __typename ... on CancelBackfillSuccess { backfillId } ... on Error { message } } }"""
_LAUNCH_RUN = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on Error { message } } }"""
_RUN = """query($id: ID!) { runOrError(runId: $id) { __typename ... on Error { message } ... on Run { status } } }"""
_RUNS = """query($filter: RunsFilter!, $limit: Int!) { runsOrError(filter: $filter, limit: $limit) {
  __typename ... on Error { message }
  ... on Runs { results { runId status creationTime startTime endTime tags { key value } } } } }"""
_WHERE = """query($keys: [AssetKeyInput!]!) { assetNodes(assetKeys: $keys) {
  jobNames repository { name location { name } } } }"""
_RELOAD = """mutation($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) {
  __typename ... on WorkspaceLocationEntry { locationOrLoadError { __typename
    ... on PythonError { className message stack causes { className message stack } } } }
  ... on ReloadNotSupported { message } ... on RepositoryLocationNotFound { message } ... on Error { message } } }"""
_LOAD = """query($failed: RunsFilter!, $queued: RunsFilter!, $starting: RunsFilter!, $started: RunsFilter!) {
  failed: runsOrError(filter: $failed) { ... on Runs { count } ... on Error { message } }
  queued: runsOrError(filter: $queued) { ... on Runs { count } ... on Error { message } }
  starting: runsOrError(filter: $starting) { ... on Runs { count } ... on Error { message } }
  started: runsOrError(filter: $started) { ... on Runs { count } ... on Error { message } }
  instance { daemonHealth { allDaemonStatuses { daemonType required lastHeartbeatTime } } } }"""
_HEALTH = """{ workspaceOrError { __typename ... on PythonError { message }
    ... on Workspace { locationEntries { name loadStatus locationOrLoadError { __typename
      ... on PythonError { className message stack causes { className message stack } } } } } }
  instance { daemonHealth { allDaemonStatuses { daemonType required healthy lastHeartbeatTime } } } }"""


class DagsterUnreachable(UserError):
    def __init__(self, url: str | None, found: str) -> None:
        where = f"Dagster at {url}" if url else "Dagster"
        super().__init__(f"{where} does not answer ({found}). Start it with `ai-assets up`.")


class DagsterRefused(UserError):
    def __init__(self, request: str, message: str) -> None:
        super().__init__(f"Dagster refused to {request}: {message}")


@dataclass(frozen=True, kw_only=True)
class DagsterBackfill:
    """How far a backfill is. Counts are of asset partitions, summed over its assets."""

    id: str
    status: BackfillStatus
    partitions: int | None
    materialized: int
    failed: int
    error: str | None

    @property
    def done(self) -> bool:
        return self.status not in ("REQUESTED", "CANCELING", "FAILING")

    @property
    def succeeded(self) -> bool:
        return self.status == "COMPLETED_SUCCESS"


@dataclass(frozen=True, kw_only=True)
class Run:
    run_id: str
    status: RunStatus
    made_at: float
    """Epoch seconds."""
    ended_at: float | None
    tags: Mapping[str, str]

    @property
    def done(self) -> bool:
        return self.status in ("SUCCESS", "FAILURE", "CANCELED")


@dataclass(frozen=True, kw_only=True)
class Health:
    """What the web server knows of the code location and the daemons."""

    code_loaded: bool
    """Of all code locations."""
    code_errors: Mapping[str, str]
    """By code location, why its definitions cannot be loaded, in words for their author; none while they are loading.

    Without a name where the workspace itself is wrong.
    """
    code_missing: tuple[str, ...]
    """Code locations that are still being loaded, or started again."""
    daemons_missing: tuple[str, ...]
    """Daemons without a heartbeat since the given moment."""


@dataclass(frozen=True, kw_only=True)
class DagsterLoad:
    """How many runs there are of each kind, and when its daemons last gave a sign of life."""

    queued: int
    starting: int
    started: int
    failed: int
    """Since the given moment; interrupted ones among them."""
    heartbeats: Mapping[str, float | None]
    """By required daemon, epoch seconds; None where it never gave one."""


def answers(url: str) -> bool:
    """Whether a web server gives this page."""
    import requests

    with requests.Session() as session:
        session.trust_env = False
        try:
            return session.get(url, timeout=2).ok
        except requests.RequestException:
            return False


class DagsterApi:
    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._session: Session | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """A process that lives for days keeps no connection that it does not need."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def answers(self) -> bool:
        return answers(f"{self.url}/server_info")

    def launch_backfill(
        self,
        assets: Sequence[Sequence[str]],
        partitions: Sequence[str],
        title: str,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Ask for these partitions of these assets, and return the id of the backfill that will run them."""
        params = {
            "assetSelection": [{"path": list(path)} for path in assets],
            "partitionNames": list(partitions),
            "title": title,
            "tags": [{"key": key, "value": value} for key, value in (tags or {}).items()],
        }
        answer = self._ask("launch the backfill", _LAUNCH, {"params": params}, "launchPartitionBackfill")
        return cast(str, answer["backfillId"])

    def launch_run(self, collection: str, tags: Mapping[str, str]) -> str:
        """Launch one run of a collection's job, in the code location that has its assets, and return its id."""
        location, repository = self._where(collection)
        params = {
            "selector": {"repositoryLocationName": location, "repositoryName": repository, "jobName": collection},
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }
        answer = self._ask("launch the run", _LAUNCH_RUN, {"params": params}, "launchRun")
        return cast(str, answer["run"]["runId"])

    def _where(self, collection: str) -> tuple[str, str]:
        """Code location and repository of its assets; jobs of other code locations may have the same name."""
        given = {"keys": [{"path": [collection, CANDIDATE]}]}
        for node in self._query("find the code location", _WHERE, given)["assetNodes"]:
            if collection in node["jobNames"]:
                return node["repository"]["location"]["name"], node["repository"]["name"]
        raise DagsterRefused("launch the run", f"no code location that is loaded has the collection '{collection}'")

    def backfill_status(self, backfill_id: str) -> DagsterBackfill:
        answer = self._ask("show the backfill", _BACKFILL, {"id": backfill_id}, "partitionBackfillOrError")
        counts = (answer["assetBackfillData"] or {}).get("assetBackfillStatuses") or []
        return DagsterBackfill(
            id=answer["id"],
            status=answer["status"],
            partitions=answer["numPartitions"],
            materialized=sum(int(c.get("numPartitionsMaterialized", c.get("materialized", 0))) for c in counts),
            failed=sum(int(c.get("numPartitionsFailed", c.get("failed", 0))) for c in counts),
            error=answer["error"] and answer["error"]["message"],
        )

    def cancel_backfill(self, backfill_id: str) -> None:
        """Its runs that are under way are ended, and no more are launched."""
        self._ask("cancel the backfill", _CANCEL, {"id": backfill_id}, "cancelPartitionBackfill")

    def run_status(self, run_id: str) -> RunStatus:
        return cast(RunStatus, self._ask("show the run", _RUN, {"id": run_id}, "runOrError")["status"])

    def runs(self, job: str, limit: int) -> list[Run]:
        """The newest runs of a job, the newest first."""
        return self._runs({"pipelineName": job}, limit)

    def run(self, job: str, run_id: str) -> Run | None:
        return next(iter(self._runs({"pipelineName": job, "runIds": [run_id]}, 1)), None)

    def _runs(self, chosen: Mapping[str, object], limit: int) -> list[Run]:
        given = {"filter": chosen, "limit": limit}
        results = self._ask("list the runs", _RUNS, given, "runsOrError")["results"]
        return [
            Run(
                run_id=found["runId"],
                status=found["status"],
                made_at=float(found["creationTime"]),
                ended_at=found["endTime"],
                tags={tag["key"]: tag["value"] for tag in found["tags"]},
            )
            for found in results
        ]

    def knows(self, assets: Sequence[Sequence[str]]) -> bool:
        """Whether a code location that is loaded has one of these assets."""
        given = {"keys": [{"path": list(path)} for path in assets]}
        return bool(self._query("find the code location", _WHERE, given)["assetNodes"])

    def reload(self, location: str) -> str | None:
        """Have a code location loaded anew, which takes as long as that does; why it could not be, in words.

        Where it could not, Dagster has nothing of it any more: load it elsewhere first.
        """
        answer = self._ask("reload the code location", _RELOAD, {"name": location}, "reloadRepositoryLocation")
        found = answer.get("locationOrLoadError") or {}
        return essential_message(found) if found.get("__typename") == "PythonError" else None

    def health(self, heartbeats_after: float) -> Health:
        """Heartbeats outlive the daemon that wrote them, so only those after a moment (epoch seconds) count."""
        data = self._query("tell its health", _HEALTH, {})
        workspace = data["workspaceOrError"]
        entries = {entry["name"]: entry["locationOrLoadError"] for entry in workspace.get("locationEntries", [])}
        errors = {
            name: essential_message(found)
            for name, found in entries.items()
            if found and found["__typename"] == "PythonError" and found["className"] != _UNREACHABLE
        }
        loaded = {name for name, found in entries.items() if found and found["__typename"] == "RepositoryLocation"}
        daemons = data["instance"]["daemonHealth"]["allDaemonStatuses"]
        return Health(
            code_loaded=bool(entries) and len(loaded) == len(entries),
            code_errors=errors if "message" not in workspace else {"": workspace["message"]},
            code_missing=tuple(name for name in entries if name not in loaded and name not in errors),
            daemons_missing=tuple(
                daemon["daemonType"]
                for daemon in daemons
                if daemon["required"]
                and not (daemon["healthy"] and (daemon["lastHeartbeatTime"] or 0) > heartbeats_after)
            ),
        )

    def load(self, failed_since: float) -> DagsterLoad:
        """`failed_since`: epoch seconds."""
        wanted = {name: {"statuses": [name.upper()]} for name in ("queued", "starting", "started")}
        failed = {"statuses": ["FAILURE"], "createdAfter": failed_since}
        data = self._query("tell its load", _LOAD, {**wanted, "failed": failed})
        for name in (*wanted, "failed"):
            if "count" not in data[name]:
                raise DagsterRefused("tell its load", data[name].get("message") or name)
        return DagsterLoad(
            **{name: int(data[name]["count"] or 0) for name in (*wanted, "failed")},
            heartbeats={
                daemon["daemonType"]: daemon["lastHeartbeatTime"]
                for daemon in data["instance"]["daemonHealth"]["allDaemonStatuses"]
                if daemon["required"]
            },
        )

    def _ask(self, request: str, query: str, variables: Mapping[str, Any], field: str) -> dict[str, Any]:
        answer = cast(dict[str, Any], self._query(request, query, variables)[field])
        if set(answer) <= {"__typename", "message"}:
            raise DagsterRefused(request, answer.get("message") or answer["__typename"])
        return answer

    def _query(self, request: str, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        import requests

        try:
            response = self._http().post(
                f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=self._timeout_s
            )
            body = response.json()
        except requests.JSONDecodeError as e:
            raise DagsterUnreachable(self.url, f"HTTP status {response.status_code}, not a Dagster answer") from e
        except requests.RequestException as e:
            raise DagsterUnreachable(self.url, type(e).__name__) from e
        if body.get("errors"):
            raise DagsterRefused(request, "; ".join(error["message"] for error in body["errors"]))
        return cast(dict[str, Any], body["data"])

    def _http(self) -> "Session":
        import requests

        if self._session is None:
            self._session = requests.Session()
            self._session.trust_env = False  # a proxy cannot reach this machine's loopback
        return self._session


def essential_message(error: Mapping[str, Any]) -> str:
    """The innermost cause in the author's words, with the place in their code; our own errors say it all themselves."""
    chain = [error, *(error.get("causes") or [])]
    innermost = next((found for found in chain if _is_user_error(found["message"].strip())), chain[-1])
    name, message = innermost["className"] or "", innermost["message"].strip()
    text = re.sub(rf"^(?:[\w.]*\.)?{re.escape(name)}: ", "", message)
    if _is_user_error(message):
        return text
    frames = [
        match for frame in innermost["stack"] if not _DAGSTER_FRAME.search(frame) and (match := _FRAME.search(frame))
    ]
    place = f" ({frames[-1]['file']}, line {frames[-1]['line']})" if frames else ""
    return f"{name}: {text}{place}"


def _is_user_error(message: str) -> bool:
    return message.startswith("ai_assets.")
