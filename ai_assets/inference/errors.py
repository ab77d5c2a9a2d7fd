"""The part of the error tree that knows paid calls; it hangs below `UserError` of `ai_assets/base/errors.py`.

UserError
  DeclarationInvalid
    InferenceInvalid           inference.yaml is wrong: file, line, what to write
    CanaryInvalid              the same of a file of questions for a canary
  InferenceMissing             there is no inference.yaml, and something asks a model
  CanaryUndeclared             an endpoint has no canary, and somebody wants to ask it
  CanaryClosed                 the endpoint may not be asked at this hour
  DueOver                      what is asked anew was due at a moment that is over
  RouteUnknown                 a request names neither a route nor an endpoint
  PriorityUnknown              a request or a run has a priority that there is not
  WorkStops                    concerns all calls alike
    EndpointUnedited           it still holds what `ai-assets new --route` wrote
    PriceUnknown               nobody said what a call costs, so none is made
    ServerMisfit               the server has not what is declared of it: a model, a tensor, a metric
    KeyMissing                 the environment variable that should hold a key is empty
    KeyUnusable                it holds what cannot be a key
    BatchUndeclared            `tier: batch`, and no endpoint of the route says what its Batch API costs
    BudgetExhausted            a call might cost more than its budget has left
    BudgetInBatches            what it has left is reserved by batches on their way, which may take a day
    BackfillSpent              the same of what was approved for a backfill, or the backfill is over
    EndpointDown               the provider has not responded for a long time
    EndpointRefuses            the provider refuses the key, or the account has no money left
EngineClosed                   somebody asks after the engine was closed: a mistake in our code or a plain program's
"""

import datetime
from collections.abc import Sequence
from pathlib import Path

from ai_assets.base.errors import AiAssetsError, DeclarationInvalid, UserError, said_of
from ai_assets.base.money import in_full
from ai_assets.base.yaml_settings import nearest
from ai_assets.inference.records import PRIORITIES, RequestKind


class InferenceInvalid(DeclarationInvalid):
    """`inference.yaml` is wrong."""


class CanaryInvalid(DeclarationInvalid):
    """A file that `canary: {items: ...}` names is wrong."""


class CanaryUndeclared(UserError):
    def __init__(self, name: str, known: Sequence[str], declared: Sequence[str], path: Path) -> None:
        if name not in known:
            said = f"There is no endpoint '{name}'{nearest(name, list(known), 'none is declared')}"
        else:
            said = f"Endpoint '{name}' declares no canary in {path}; the least is: canary: {{}}"
        has = f". Those that declare one: {', '.join(declared)}" if declared else ""
        super().__init__(f"{said}{has} (docs/canary.md)")


class CanaryClosed(UserError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"Endpoint '{name}' may not be asked now: it is outside the hours of its 'windows' in inference.yaml. Its "
            "canary is asked when they open."
        )


class InferenceMissing(UserError):
    """Nothing is declared, and something asks a model."""

    def __init__(self, looked_for: Path) -> None:
        super().__init__(
            f"there is no {looked_for}, where models are declared (AI_ASSETS_INFERENCE names another file). The least "
            "it needs, here to rehearse without a key:\n"
            "  endpoints:\n"
            "    rehearsal: {base_url: rehearsal, model: rehearsal-mini, free: true}\n"
            "  routes: {default: {endpoints: [rehearsal]}}"
        )


class RouteUnknown(UserError):
    def __init__(self, name: str, known: Sequence[str], missing: Path | None = None) -> None:
        hint = nearest(name, list(known)) if known else "; inference.yaml declares none"
        if missing is not None:
            hint = f": {InferenceMissing(missing)}"
        super().__init__(f"There is no route or endpoint '{name}'{hint}")


class DueOver(UserError):
    def __init__(self, collection: str, asset: str, due: str, timezone: str) -> None:
        super().__init__(
            f"'{asset}' of collection '{collection}' was due at {due} ({timezone}), which is over, and nothing was "
            "asked; give it another 'due' in defs.yaml, or take the key out."
        )


class PriorityUnknown(UserError):
    def __init__(self, found: object, whose: str = "a request") -> None:
        super().__init__(f"The priority of {whose} is '{found}'{nearest(str(found), list(PRIORITIES))}")


class WorkStops(UserError):
    """What concerns all calls alike, and is therefore said once and not for each of them."""


class BatchUndeclared(WorkStops):
    def __init__(self, route: str, endpoints: Sequence[str], kind: RequestKind = "chat") -> None:
        declares = "declares one"
        if kind == "embedding":
            declares += " that takes texts to embed (with `wire: together` it takes chats alone)"
        super().__init__(
            f"Route '{route}' is asked by batch, and none of its endpoints ({', '.join(endpoints)}) {declares}. In "
            "inference.yaml write under the endpoint, if the provider has a Batch API: batch: {price_share: 0.5}, or "
            "take 'tier: batch' away."
        )


class EndpointUnedited(WorkStops):
    def __init__(self, endpoint: str, keys: Sequence[str], *, key: str | None, is_priced: bool) -> None:
        needed = [f"{name} (still a placeholder)" for name in keys]
        needed += [] if is_priced else ["prices (or free: true)"]
        also = f", and put the key into the environment variable {key}" if key else ""
        super().__init__(
            f"Endpoint '{endpoint}' is as ai-assets new wrote it; nothing was sent. In inference.yaml, under "
            f"endpoints.{endpoint}, fill in {' and '.join(needed)}{also}. To try it first without any provider: "
            "base_url: rehearsal, model: rehearsal-mini, free: true."
        )


class PriceUnknown(WorkStops):
    def __init__(self, endpoint: str, model: str, on: datetime.date, tier: str | None = None) -> None:
        of, named = (f" of the tier '{tier}'", f"tier: {tier}, ") if tier else ("", "")
        super().__init__(
            f"Endpoint '{endpoint}' (model {model}) has no price{of} for {on}, and without one no budget can hold; "
            f"nothing was sent. In inference.yaml write: prices: [{{from: {on}, {named}input: USD, output: USD}}] with "
            "US dollars per million tokens, or free: true where calls cost nothing."
        )


class KindUnserved(WorkStops):
    def __init__(self, endpoint: str, protocol: str, kind: str, *, classifies: bool = False) -> None:
        what = {
            "embedding": "embed a text",
            "raw": "take a call of OpenAI's own client",
            "rerank": "compare a text with a query",
            "predict": "classify a text",
        }.get(kind, "chat")
        super().__init__(
            f"Endpoint '{endpoint}' was asked to {what}, and its protocol '{protocol}' cannot; nothing was sent. Put "
            "an endpoint with another protocol into the route, or name another route."
            + (" A stage of the kind classify may ask such a model for its label: ask: predict." if classifies else "")
        )


class ServerMisfit(WorkStops):
    """What a server says of itself is not what is declared of it."""

    def __init__(self, endpoint: str, protocol: str, problem: str) -> None:
        super().__init__(f"Endpoint '{endpoint}' ({protocol}) was not asked anything: {problem}.")


class ProtocolFailed(WorkStops):
    """It is code like any other: what it was given is kept, and nothing more is asked before somebody has looked."""

    def __init__(self, protocol: str, error: BaseException, body: str | None) -> None:
        said = said_of(error)[:200]
        if body is None:
            told = (
                f"failed while writing a request: {said}. It was not sent, and no more calls are made. Fix its 'encode'"
            )
        else:
            told = (
                f"failed while reading an answer: {said}. The answer is in the ledger (ai-assets ledger list), and no "
                "more calls are made. Fix its 'decode'"
            )
        super().__init__(f"The protocol '{protocol}' {told}, then run again.")
        self.body = body
        """What came; None where nothing was sent."""


class KeyMissing(WorkStops):
    def __init__(self, endpoint: str, variable: str) -> None:
        super().__init__(
            f"Endpoint '{endpoint}' takes its key from the environment variable {variable}, which is not set; nothing "
            f"was sent. Set it where ai-assets starts: export {variable}=..."
        )


class KeyUnusable(WorkStops):
    def __init__(self, endpoint: str, variable: str) -> None:
        super().__init__(
            f"Endpoint '{endpoint}' takes its key from the environment variable {variable}, and that holds a line "
            "break or another character that no HTTP header can; nothing was sent. Set it to the key alone."
        )


class BudgetExhausted(WorkStops):
    """Raised once for all calls of a job, and never worth a retry."""

    def __init__(
        self,
        name: str,
        holder: str,
        *,
        limit_usd: float,
        spent_usd: float,
        held_usd: float,
        earmarked_usd: float,
        needed_usd: float,
    ) -> None:
        held = (
            f", {in_full(held_usd)} held for calls that may have been billed (ai-assets ledger ambiguous lists them, "
            "ledger resolve and reconcile free what was not billed)"
            if held_usd
            else ""
        )
        aside = f", {in_full(earmarked_usd)} set aside for backfills" if earmarked_usd else ""
        super().__init__(
            f"Budget '{name}' ({holder}) is used up: the next call may cost {in_full(needed_usd)}, and of "
            f"{in_full(limit_usd)} {in_full(spent_usd)} are spent{held}{aside}. No more calls are made. Raise the "
            f"limit: ai-assets budget set {name} --limit-usd USD --reason WHY (the declared limit counts "
            "where nobody has set one); then run again: what was answered is kept and not paid again."
        )
        self.budget = name


class CommonBudgetExhausted(BudgetExhausted):
    """Of a budget that counts calls of several tenants: none of them learns what the others spent."""

    def __init__(self, name: str, *, needed_usd: float) -> None:
        WorkStops.__init__(
            self,
            f"Budget '{name}' is used up: the next call may cost {in_full(needed_usd)}, and not as much is left. It "
            "counts calls of several tenants, so its sums are not shown here. No more calls are made. Whoever keeps "
            f"the installation raises the limit: ai-assets budget set {name} --limit-usd USD --reason WHY; then run "
            "again: what was answered is kept and not paid again.",
        )
        self.budget = name


class EndpointNotForTenant(WorkStops):
    def __init__(self, tenant: str, endpoint: str, problem: str) -> None:
        super().__init__(
            f"Endpoint '{endpoint}' is not for tenant '{tenant}': {problem}; nothing was sent. Take another endpoint "
            "in the route, or have whoever keeps the installation allow it under `tenants` in operations.yaml."
        )


class SharesOfTenants(DeclarationInvalid):
    """`shares` of an endpoint names what is no tenant, where tenants are declared."""


class BudgetInBatches(WorkStops):
    """No worker waits for a batch: a run leaves the asset to a later one, and anybody else is told."""

    passes = True

    def __init__(self, name: str, batches: Sequence[str], *, needed_usd: float) -> None:
        super().__init__(
            f"A call may cost {in_full(needed_usd)}, and what budget '{name}' has left is reserved by batches on their "
            f"way ({', '.join(batches[:3])}{', ...' if len(batches) > 3 else ''}); nothing was sent. Ask again when "
            "one has ended (ai-assets batches list), or raise the budget."
        )
        self.name, self.batches = name, tuple(batches)


class BackfillSpent(WorkStops):
    def __init__(
        self, backfill: str, *, limit_usd: float, spent_usd: float, held_usd: float, needed_usd: float
    ) -> None:
        held = f", {in_full(held_usd)} held for calls that may have been billed" if held_usd else ""
        super().__init__(
            f"Backfill {backfill} is over or at its cap: the next call may cost {in_full(needed_usd)}, and of "
            f"{in_full(limit_usd)} {in_full(spent_usd)} are spent{held}. No more calls are made for it. Go on with "
            "another one: ai-assets backfill COLLECTION (what was answered is kept and not paid again); or start the "
            "run without its tag ai_assets/backfill."
        )
        self.backfill = backfill


class EndpointRefuses(WorkStops):
    def __init__(self, endpoint: str, key: str | None, error: str, said: str) -> None:
        what = "refuses the key" if error == "auth" else "says that the account has no money left"
        remedy = f"Check the environment variable {key}" if key else "It has no `key:` in inference.yaml; name one"
        if error == "quota":
            remedy = "Top the account up, or put another endpoint in the route"
        super().__init__(f"Endpoint '{endpoint}' {what} ({said}). {remedy}, and run again; nothing answered is lost.")
        self.error = error


class EndpointDown(WorkStops):
    """An outage is not the documents' fault: the work stops, instead of ending with a reason for each of them."""

    def __init__(self, endpoint: str, *, silent_s: float, patience_s: float, trouble: str) -> None:
        self.silent_s, self.trouble = silent_s, trouble or "no answer"
        super().__init__(
            f"Endpoint '{endpoint}' has not responded for {silent_s:.0f} s ({self.trouble}), so no more "
            f"calls are made. Find what is wrong: ai-assets inference test {endpoint}. It may fail for longer where "
            f"endpoints.{endpoint}.patience_s in inference.yaml is more than {patience_s:g}, and another endpoint in "
            "the route is asked meanwhile. Then run again: what was answered is kept and not paid again."
        )


class EngineClosed(AiAssetsError):
    def __init__(self) -> None:
        super().__init__("The inference engine was closed while somebody was still asking.")
