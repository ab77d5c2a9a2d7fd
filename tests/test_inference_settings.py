# ruff: noqa: E501  a wrong file is a row, and a row is a line
"""Claims about reading `inference.yaml`: what is wrong in it is refused in one sentence with file, line and remedy."""

import re
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest
import yaml
from conftest import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from ai_assets.base.errors import DeclarationInvalid, UserError
from ai_assets.base.home import INFERENCE_VARIABLE, Home
from ai_assets.inference.errors import InferenceInvalid
from ai_assets.inference.load import load_inference
from ai_assets.inference.records import RETRYABLE, ErrorClass
from ai_assets.inference.settings import (
    NO_FALLBACK,
    Budget,
    Endpoint,
    EndpointLimits,
    InferenceSettings,
    RetryRule,
    Route,
    RouteRule,
    TokenPrice,
)

KEY = "sk-proj-no-real-key-0000000000"
BASE = """\
endpoints:
  mini:
    base_url: https://api.openai.com/v1
    model: gpt-4o-mini
  large: {base_url: rehearsal, model: gpt-4o}
"""
FALLBACKS = "connection_lost, garbled, gateway_error, overloaded, rate_limited, server_error, tier_unavailable, timeout, unreachable"


def mini(lines: str) -> str:
    """The base with more keys of the first endpoint, from line 5 on."""
    return BASE.replace("  large:", f"{lines}  large:")


def at(base_url: str) -> str:
    return BASE.replace("https://api.openai.com/v1", base_url)


@dataclass(frozen=True, kw_only=True)
class Case:
    id: str
    text: str
    says: str
    """All of the message after the path: line, place, problem, remedy."""


LARGE = """\
endpoints:
  mini: {{base_url: rehearsal, model: gpt-4o-mini, {}}}
  large: {{base_url: rehearsal, model: gpt-4o, {}}}
"""
URL = ":3: endpoints.mini.base_url: "
NO_KEY = ":5: endpoints.mini.key: should be the name of an environment variable, such as OPENAI_API_KEY, and never a key itself (what was found is not shown)"
WRONG = [
    # The file as a whole
    Case(id="a list", text="- a\n", says=":1: should be keys with values"),
    Case(id="not YAML", text="endpoints: [\n", says=":2: not valid YAML: while parsing a flow node, expected the node content, but found '<stream end>'"),
    Case(id="key twice", text=mini("    model: other\n"), says=":5: key 'model' is here already, on line 4"),
    # Keys of providers
    Case(id="a key as its id", text=mini("    key_id: sk-abc\n"), says=":5: endpoints.mini.key_id: should be the public id that the provider shows for the key, such as key_abc123, and never the key itself (what was found is not shown)"),
    Case(id="exclusive without id", text=mini("    key_exclusive: true\n"), says=":5: endpoints.mini.key_exclusive: an exclusive key needs its 'key_id', by which the provider's exports name it"),
    Case(id="two ids of a key", text=LARGE.format("key: K, key_id: key_a", "key: K, key_id: key_b"), says=":3: endpoints.large.key_id: endpoint 'mini' calls the key of K 'key_a', and one key has one id"),
    Case(id="half exclusive", text=LARGE.format("key_id: key_a, key_exclusive: true", "key_id: key_a, key_exclusive: false"), says=":3: endpoints.large.key_exclusive: endpoint 'mini' has the same key_id and says true"),
    # Keys nobody knows, at every level
    Case(id="key", text="endpoint: {}\n", says=":1: unknown key 'endpoint'; did you mean 'endpoints'?"),
    Case(id="key of an endpoint", text=mini("    api_key: X\n"), says=":5: endpoints.mini: unknown key 'api_key'; did you mean 'key'?"),
    Case(id="key of a price", text=mini("    prices: [{from: 2026-01-01, imput: 1}]\n"), says=":5: endpoints.mini.prices.0: unknown key 'imput'; did you mean 'input'?"),
    Case(id="key of limits", text=mini("    limits: {rpm: 5}\n"), says=":5: endpoints.mini.limits: unknown key 'rpm'; known here: concurrency, interactive_places, requests_per_minute, tokens_per_minute"),
    Case(id="a share of nothing", text=mini("    shares: {claims: 0}\n"), says=":5: endpoints.mini.shares.claims: should be more than 0 (found 0)"),
    Case(id="a share below nothing", text=mini("    shares: {claims: -1}\n"), says=":5: endpoints.mini.shares.claims: should be more than 0 (found -1)"),
    Case(id="a share that is no number", text=mini("    shares: {claims: true}\n"), says=":5: endpoints.mini.shares.claims: should be a number (found True)"),
    Case(id="a share of nobody", text=mini('    shares: {"": 1}\n'), says=":5: endpoints.mini.shares.: should have at least 1 characters (found '')"),
    Case(id="all places for interactive calls", text=mini("    limits: {concurrency: 4, interactive_places: 4}\n"), says=":5: endpoints.mini.limits.interactive_places: it leaves no place for other calls: 'concurrency' is 4"),
    Case(id="key of a route", text=BASE + "routes:\n  default: {endpoint: [mini]}\n", says=":7: routes.default: unknown key 'endpoint'; did you mean 'endpoints'?"),
    Case(id="key of a retry", text=BASE + "retries:\n  all: {timeout: {atempts: 1}}\n", says=":7: retries.all.timeout: unknown key 'atempts'; did you mean 'attempts'?"),
    Case(id="key of a budget", text="budgets:\n  - {name: a, limit: 5}\n", says=":2: budgets.0: unknown key 'limit'; did you mean 'limit_usd'?"),
    # Endpoints
    Case(id="name of an endpoint", text="endpoints:\n  Mini: {base_url: rehearsal, model: m}\n", says=":2: endpoints.Mini: has characters that cannot stand there; it must match ^[a-z][a-z0-9_-]*$ (found 'Mini')"),
    Case(id="no model", text="endpoints:\n  a: {base_url: rehearsal}\n", says=":2: endpoints.a.model: is missing"),
    Case(id="no protocol of ours", text=mini("    protocol: anthropic\n"), says=":5: endpoints.mini.protocol: the protocol 'anthropic' cannot be used: there is none of that name (your own is module:name); known here: kserve, openai, tei"),
    Case(id="almost a protocol", text=mini("    protocol: opnai\n"), says=":5: endpoints.mini.protocol: the protocol 'opnai' cannot be used: there is none of that name (your own is module:name); did you mean 'openai'?"),
    Case(id="a protocol that is nowhere", text=mini("    protocol: nowhere_here:Mine\n"), says=":5: endpoints.mini.protocol: the protocol 'nowhere_here:Mine' cannot be used: importing nowhere_here failed: ModuleNotFoundError: No module named 'nowhere_here'"),
    Case(id="no class of a protocol", text=mini("    protocol: json:JSONDecoder\n"), says=":5: endpoints.mini.protocol: the protocol 'json:JSONDecoder' cannot be used: it is not a class that derives from Protocol (from ai_assets.protocols import Protocol)"),
    Case(id="options that it does not know", text=mini("    options: {threads: 4}\n"), says=":5: endpoints.mini: the protocol 'openai' knows no option 'threads'; known here: api_version, deployment, key_header, metrics, priority"),
    Case(id="options that JSON has not", text=mini("    options: {since: 2026-10-05}\n"), says=":5: endpoints.mini.options: the option 'since' is no plain value (Object of type date is not JSON serializable); write a date as text, in quotes"),
    Case(id="almost the rehearsal", text=at("rehersal"), says=URL + "no URL; did you mean 'rehearsal'?"),
    Case(id="a host without http", text=at("api.openai.com/v1"), says=URL + "no URL; it should be such as https://api.openai.com/v1, or rehearsal"),
    Case(id="another scheme", text=at("ftp://host/v1"), says=URL + "'ftp://host/v1' is not such as https://api.openai.com/v1"),
    Case(id="no host", text=at("https:///v1"), says=URL + "'https:///v1' is not such as https://api.openai.com/v1"),
    Case(id="no port", text=at("https://host:port/v1"), says=URL + "'https://host:port/v1' is not such as https://api.openai.com/v1"),
    Case(id="half an address", text=at("'http://[::1/v1'"), says=URL + "'http://[::1/v1' is not such as https://api.openai.com/v1"),
    Case(id="a space in the URL", text=at("https://my host/v1"), says=URL + "'https://my host/v1' is not such as https://api.openai.com/v1"),
    Case(id="a password in the URL", text=at("https://me:pass@host/v1"), says=URL + "a URL with a user or password in it; name the variable that holds the key under 'key'"),
    Case(id="a query in the URL", text=at("https://host/v1?key=secret"), says=URL + "a URL with '?' or '#' in it; a path such as /chat/completions is added at its end"),
    Case(id="too much of the URL", text=at("https://host/v1/chat/completions/"), says=URL + "'https://host/v1/chat/completions/' should end before /chat/completions, which is added to it"),
    Case(id="a key", text=mini(f"    key: {KEY}\n"), says=NO_KEY),
    Case(id="a key of underscores", text=mini("    key: gsk_abcdefgh\n"), says=NO_KEY),
    Case(id="a key of letters and digits", text=mini("    key: 9f8e7d6c5b4a39281706f5e4d3c2b1a0\n"), says=NO_KEY),
    Case(id="a key that could name a variable", text=mini("    key: f9e8d7c6b5a4938271605f4e3d2c1b0a\n"), says=NO_KEY),
    Case(id="a number for a key", text=mini("    key: 1234\n"), says=NO_KEY),
    Case(id="a variable's value asked for", text=mini("    key: ${OPENAI_API_KEY}\n"), says=NO_KEY),
    Case(id="free and priced", text=mini("    free: true\n    prices: [{from: 2026-01-01, input: 1}]\n"), says=":5: endpoints.mini.free: an endpoint whose calls are free has no 'prices'"),
    Case(id="two prices from one date", text=mini("    prices:\n    - {from: 2026-01-01, input: 1}\n    - {from: 2026-01-01, input: 2}\n"), says=":7: endpoints.mini.prices.1.from: there is a price from 2026-01-01 already"),
    Case(id="a price from no date", text=mini("    prices: [{from: today, input: 1}]\n"), says=":5: endpoints.mini.prices.0.from: should be a date such as 2026-10-05 (found 'today')"),
    Case(id="a negative price", text=mini("    prices: [{from: 2026-01-01, input: -1}]\n"), says=":5: endpoints.mini.prices.0.input: should be at least 0 (found -1)"),
    Case(id="an endless price", text=mini("    prices: [{from: 2026-01-01, input: .inf}]\n"), says=":5: endpoints.mini.prices.0.input: should be a number (found inf)"),
    Case(id="a price of a slip", text=mini("    prices: [{from: 2026-01-01, input: '1e300'}]\n"), says=":5: endpoints.mini.prices.0.input: should be at most 100000 (found '1e300')"),
    # Routes
    Case(id="unknown endpoint", text=BASE + "routes:\n  default:\n    endpoints:\n    - mini\n    - larg\n", says=":10: routes.default.endpoints.1: unknown endpoint 'larg'; did you mean 'large'?"),
    Case(id="no endpoints at all", text="routes:\n  default: {endpoints: [mini]}\n", says=":2: routes.default.endpoints.0: unknown endpoint 'mini'; none is declared"),
    Case(id="a route to nowhere", text=BASE + "routes:\n  default: {endpoints: []}\n", says=":7: routes.default.endpoints: should have at least 1 items"),
    Case(id="an endpoint twice", text=BASE + "routes:\n  default: {endpoints: [mini, large, mini]}\n", says=":7: routes.default.endpoints.2: endpoint 'mini' is named twice"),
    Case(id="a route like an endpoint", text=BASE + "routes:\n  mini: {endpoints: [large]}\n", says=":7: routes.mini: an endpoint has that name, and a request names either; choose another"),
    Case(id="a rule for an endpoint elsewhere", text=BASE + "routes:\n  default:\n    endpoints: [mini]\n    rules:\n    - {use: large, slower_than_s: 5}\n", says=":10: routes.default.rules.0.use: 'large' is no endpoint of this route; known here: mini"),
    Case(id="a rule with two conditions", text=BASE + "routes:\n  default:\n    endpoints: [mini]\n    rules:\n    - {use: mini, slower_than_s: 5, longer_than_tokens: 9}\n", says=":10: routes.default.rules.0: a rule has either 'longer_than_tokens' or 'slower_than_s', and this one has both"),
    Case(id="a rule without condition", text=BASE + "routes:\n  default:\n    endpoints: [mini]\n    rules: [{use: mini}]\n", says=":9: routes.default.rules.0: a rule has either 'longer_than_tokens' or 'slower_than_s', and this one has neither"),
    Case(id="fallback on no error", text=BASE + "routes:\n  default: {endpoints: [mini], fallback_on: [busy]}\n", says=":7: routes.default.fallback_on.0: should be 'rate_limited', 'tier_unavailable', 'overloaded', 'server_error', 'gateway_error', 'unreachable', 'timeout', 'connection_lost', 'garbled', 'too_large', 'malformed', 'auth', 'quota', 'refused', 'context_too_long', 'invalid_output', 'not_run', 'in_batch', 'outside_window', 'held', 'budget' or 'unhashable' (found 'busy')"),
    *(
        Case(id=f"fallback on {error}", text=BASE + f"routes:\n  default:\n    endpoints: [mini]\n    fallback_on: [timeout, {error}]\n", says=f":9: routes.default.fallback_on.1: no fallback after '{error}': {why}")
        for error, why in NO_FALLBACK.items()
    ),
    # Retries
    Case(id="retries of no kind", text="retries:\n  clasify: {}\n", says=":2: retries.clasify: 'clasify' is no kind of stage; did you mean 'classify'?"),
    Case(id="retries of what is final", text="retries:\n  all:\n    auth: {attempts: 3}\n", says=f":3: retries.all.auth: 'auth' is never tried again; known here: {FALLBACKS}"),
    Case(id="no attempt", text="retries:\n  all: {timeout: {attempts: 0}}\n", says=":2: retries.all.timeout.attempts: should be at least 1 (found 0)"),
    Case(id="a cap below the base", text="retries:\n  all: {timeout: {base_s: 5, cap_s: 2}}\n", says=":2: retries.all.timeout.cap_s: it must be at least 'base_s' (5)"),
    Case(id="no retries by share", text="retry_share: 0\n", says=":1: retry_share: should be more than 0 (found 0)"),
    # Budgets
    Case(id="a budget twice", text="budgets:\n  - {name: a, limit_usd: 5}\n  - {name: a, limit_usd: 6}\n", says=":3: budgets.1.name: budget 'a' is declared twice"),
    Case(id="a budget without end", text="budgets: [{name: a, limit_usd: .inf}]\n", says=":1: budgets.0.limit_usd: should be a number (found inf)"),
    Case(id="a budget per week", text="budgets: [{name: a, limit_usd: 5, per: week}]\n", says=":1: budgets.0.per: should be 'day' or 'month' (found 'week')"),
    Case(id="a budget of one and each", text="budgets:\n  - name: a\n    limit_usd: 5\n    of: {tenant: acme}\n    each: tenant\n", says=":5: budgets.0.each: it counts only the tenant 'acme', so there is no other to count apart"),
    Case(id="a budget of a collection and each tenant", text="budgets:\n  - name: a\n    limit_usd: 5\n    of: {collection: mail}\n    each: tenant\n", says=":5: budgets.0.each: it counts only the collection 'mail', and that has one tenant"),
    Case(id="a budget of nobody", text="budgets:\n  - {name: a, limit_usd: 5, of: {tenant: ''}}\n", says=":2: budgets.0.of.tenant: should have at least 1 characters"),
    Case(id="a budget of a run", text="budgets:\n  - {name: a, limit_usd: 5, of: {run: x}}\n", says=":2: budgets.0.of.run: should be 'tenant', 'collection' or 'asset' (found 'run')"),
    Case(id="several problems", text="retry_share: 2\nbudgets: [{name: a}]\n", says=": 2 mistakes\n  {path}:1:1: retry_share: should be at most 1 (found 2)\n  {path}:2:11: budgets.0.limit_usd: is missing"),
]  # fmt: skip


def written(folder: Path, text: str) -> Path:
    path = folder / "inference.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.id)
def test_a_wrong_file_is_refused_with_line_and_remedy(tmp_path: Path, case: Case) -> None:
    path = written(tmp_path, case.text)
    with pytest.raises(InferenceInvalid) as caught:
        load_inference(path)
    assert str(caught.value) == f"{path}{case.says.replace('{path}', str(path))}"


@pytest.mark.parametrize(
    "text",
    [
        mini(f"    key: {KEY}\n"),
        mini(f"    api_key: {KEY}\n"),
        at(f"https://{KEY}@host/v1"),
        at(f"https://host/v1?key={KEY}"),
        at(KEY),
    ],
    ids=["as key", "as another key", "as user", "as query", "as URL"],
)
def test_a_key_in_the_file_is_shown_neither_in_the_message_nor_in_a_traceback(tmp_path: Path, text: str) -> None:
    with pytest.raises(InferenceInvalid) as caught:
        load_inference(written(tmp_path, text))
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "variable", ["OPENAI_API_KEY", "HF_TOKEN", "my_company_openai_key_2", "AZURE_OPENAI_KEY_PRODUCTION_2026"]
)
def test_a_variables_name_is_no_key(tmp_path: Path, variable: str) -> None:
    assert load_inference(written(tmp_path, mini(f"    key: {variable}\n"))).endpoints["mini"].key == variable


@pytest.mark.parametrize(
    ("written_url", "url"),
    [
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("https://host//", "https://host"),
        ("HTTP://Host:8000/v1", "http://Host:8000/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("rehearsal", "rehearsal"),
    ],
)
def test_a_path_can_be_added_to_every_url(written_url: str, url: str) -> None:
    assert Endpoint.model_validate({"base_url": written_url, "model": "m"}).base_url == url


@given(st.text(max_size=40) | st.from_regex(r"https?://[^/]*(/[a-z?#@:]*)*", fullmatch=True))
def test_a_url_is_accepted_or_refused_and_accepted_ones_stay_as_they_are(url: str) -> None:
    try:
        found = Endpoint.model_validate({"base_url": url, "model": "m"})
    except ValueError:
        return
    assert not found.base_url.endswith("/")
    assert Endpoint.model_validate({"base_url": found.base_url, "model": "m"}) == found


def test_a_file_that_is_absent_or_empty_declares_nothing(tmp_path: Path) -> None:
    absent = load_inference(tmp_path / "inference.yaml")
    assert absent.model_dump() == InferenceSettings().model_dump()
    assert absent.missing == tmp_path / "inference.yaml"
    assert load_inference(written(tmp_path, "# nothing yet\n")) == InferenceSettings()


@pytest.mark.parametrize("kind", ["folder", "dangling link", "below a file"])
def test_what_is_there_and_cannot_be_read_is_not_taken_for_absent(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "inference.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    else:
        path = written(tmp_path, "") / "inference.yaml"
    with pytest.raises(InferenceInvalid, match="cannot be read: "):
        load_inference(path)


def test_the_error_is_one_a_person_can_mend() -> None:
    assert issubclass(InferenceInvalid, DeclarationInvalid)
    assert issubclass(DeclarationInvalid, UserError)


def test_whether_the_next_endpoint_may_be_tried_is_said_of_every_class() -> None:
    assert sorted([*NO_FALLBACK, *RETRYABLE, "too_large", "quota"]) == sorted(get_args(ErrorClass))


def test_the_shipped_file_needs_no_key_and_every_endpoint_has_a_price() -> None:
    shipped = load_inference(REPOSITORY / "inference.yaml")
    assert {e.base_url for e in shipped.endpoints.values()} == {"rehearsal"}
    assert all(e.prices and not e.key for e in shipped.endpoints.values())
    assert set(shipped.routes) == {"default", "careful"}
    assert [(b.name, b.limit_usd, b.per, b.each) for b in shipped.budgets] == [
        ("everything", 5, "month", None),
        ("each-run", 1, None, "run"),
    ]


def keys_of(model: type[BaseModel]) -> set[str]:
    """The names a user writes for the fields of a model."""
    return {field.alias or name for name, field in model.model_fields.items()}


def test_the_example_shows_every_key_there_is() -> None:
    path = REPOSITORY / "inference.example.yaml"
    load_inference(path)
    models = [TokenPrice, EndpointLimits, Endpoint, RouteRule, Route, RetryRule, Budget, InferenceSettings]
    shown = re.sub(r"^  # (?= *[a-z-]+:)", "  ", path.read_text(), flags=re.MULTILINE)
    found = set(_keys(yaml.safe_load(shown)))
    assert not set().union(*map(keys_of, models)) - found


def _keys(value: object) -> list[str]:
    if isinstance(value, dict):
        return [*map(str, value), *(key for inner in value.values() for key in _keys(inner))]
    return [key for inner in value for key in _keys(inner)] if isinstance(value, list) else []


def test_the_file_lies_in_the_project_unless_the_environment_names_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "definitions.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(INFERENCE_VARIABLE, raising=False)
    assert Home.from_environment().inference == tmp_path / "inference.yaml"
    assert INFERENCE_VARIABLE not in Home.from_environment().variables()
    monkeypatch.setenv(INFERENCE_VARIABLE, "other/models.yaml")
    assert Home.from_environment().inference == tmp_path / "other" / "models.yaml"


def test_a_child_in_another_folder_finds_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(INFERENCE_VARIABLE, "models.yaml")
    assert Home.from_environment().child_environment("7:1.00")[INFERENCE_VARIABLE] == f"{tmp_path}/models.yaml"
