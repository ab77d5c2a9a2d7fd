"""`ai-assets shadow`: a changed prompt or route beside what is live, on documents that are there, before it is used."""

import shlex
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ai_assets.base.plural import plural
from ai_assets.cli import backfill as backfill_command
from ai_assets.cli.launching import RunBy, author_of
from ai_assets.cli.output import (
    AsJson,
    CollectionName,
    all_collections,
    collection,
    confirm,
    console,
    drawn_bar,
    errors,
    home,
    led,
    money,
    print_json,
    stores,
    stores_to_read,
    table,
)
from ai_assets.cli.shadow_promotion import Promotion, chosen_variant, promote
from ai_assets.collection.catalog import Catalog
from ai_assets.collection.loading import Collection
from ai_assets.evaluation.figures import between
from ai_assets.planning import backfills
from ai_assets.planning.plan import described
from ai_assets.planning.words import dollars, interval
from ai_assets.shadow import records
from ai_assets.shadow.shadowing import (
    SAMPLE,
    ProposedShadow,
    ShadowRequest,
    carry_out,
    migration_plan,
    propose,
    require_allowed,
)
from ai_assets.shadow.spec import ComparedDocument, Shadow, SidePrice, VariantResult
from ai_assets.shadow.variants import wanted_variants
from ai_assets.signoff.launches import Launch
from ai_assets.storage.stores import Stores

MOST_MOVES, MOST_EXAMPLES = 12, 10


class _CollectionFirst(TyperGroup):
    """`ai-assets shadow COLLECTION ...` starts one: what is no command is the name of a collection."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        known = not args or args[0] in self.commands or args[0].startswith("-")
        return super().resolve_command(ctx, args if known else ["start", *args])


app = typer.Typer(
    cls=_CollectionFirst,
    help="Compare a changed prompt or route with what is live: ai-assets shadow COLLECTION --stage S --prompt FILE.",
    no_args_is_help=True,
)
ShadowName = Annotated[str, typer.Argument(metavar="SHADOW", help="As the list names it, or its number.")]
OfVariant = Annotated[str | None, typer.Option("--variant", help="Of several variants.")]


@app.command("start")
def start(
    name: CollectionName,
    stage: Annotated[str, typer.Option(help="The stage whose prompt or route is changed.")],
    prompt: Annotated[list[str] | None, typer.Option(help="A prompt file; several are several variants.")] = None,
    route: Annotated[
        list[str] | None, typer.Option(help="A route or an endpoint; with one --prompt it is asked there.")
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FILE", help="A prompt file with a name of its own.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option(help=f"How many documents are drawn; {SAMPLE}, or all of a slice.")
    ] = None,
    slices: Annotated[
        list[str] | None,
        typer.Option("--slice", metavar="KEY=VALUE", help="Only those: language=de, source=letters, STAGE.COLUMN=X."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which documents are drawn; the same ones for the same number.")] = 1,
    max_usd: Annotated[
        float | None, typer.Option(help="The most that it may cost; by default what is said before.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Go ahead without asking.")] = False,
    promotes: Annotated[
        bool, typer.Option("--promote", help="Make the winner, or the only variant, the declared one afterwards.")
    ] = False,
    by: RunBy = None,
    as_json: AsJson = False,
) -> None:
    """Ask a changed prompt or route about documents of the lake, and compare with what is live.

    The price is said first. Nothing that is published changes, and no answer is paid twice: neither here nor later,
    when the variant is used.
    """
    chosen = collection(name)
    cap_nusd = None if max_usd is None else backfills.amount_of(max_usd)
    wanted = ShadowRequest(
        stage=stage,
        variants=wanted_variants(prompt or (), route or (), variant or ()),
        sample=sample,
        seed=seed,
        slices=slices or (),
    )
    with stores() as places:
        proposed = propose(chosen, places, wanted, _say(as_json))
        cap = proposed.cap_nusd if cap_nusd is None else cap_nusd
        if not as_json:
            _show_price(proposed)
        author = author_of(places, by, chosen)
        launch = Launch.of(author.launcher) if author.launcher else Launch.unknown(author.why)
        require_allowed(proposed, places, launch)
        if proposed.most_calls:
            _confirm(cap, sure=yes, quiet=as_json)
        shadow = _carried_out(proposed, places, cap, author.name, quiet=as_json)
        with places.state.read() as connection:
            documents = records.documents_of(connection, shadow)
        if as_json and not promotes:
            print_json(_plainly(shadow, documents))
        elif not as_json:
            _show(chosen, shadow, documents, promotes=promotes)
        if promotes:
            _promote(chosen, places, shadow, None, migrate=False, yes=False, as_json=as_json)


def _say(quiet: bool) -> Any:
    return (lambda _line: None) if quiet else (lambda line: errors.print(f"{line} …"))


def _show_price(proposed: ProposedShadow) -> None:
    drawn, spec = proposed.drawn, proposed.spec
    sampled = sum(each.is_sampled for each in drawn.documents)
    beside = len(drawn.documents) - sampled
    also = f", and {plural(beside, 'golden document')} beside them" if beside else ""
    said = f"{plural(sampled, 'document')} of {drawn.population:,} ({spec.drawn}){also}, against {spec.compared_with}."
    console.print(led(f"{proposed.collection.name}, stage '{spec.stage}': ", "bold", said))
    if drawn.left_out:
        console.print(f"{plural(drawn.left_out, 'document')} without a live answer to the present text: left out.")
    rows = []
    for name, found in proposed.plans.items():
        (stage,) = found.stages
        spread = (dollars(found.money.low_nusd), dollars(found.money.likely_nusd), dollars(found.money.high_nusd))
        rows.append((name, stage.endpoint, stage.kept + stage.reused, stage.new_calls, *spread))
    columns = ("variant", "endpoint", "answered", "new calls", "low", "likely", "high")
    table("", columns, rows, columns[2:])
    for found in proposed.plans.values():
        for each in found.budgets:
            if each.stops != "no":
                console.print(f"Budget {each.budget}: {dollars(each.left_nusd)} left.", style="yellow")


def _confirm(cap: int, *, sure: bool, quiet: bool) -> None:
    if not quiet:
        console.print(f"It may cost at most {dollars(cap)}; no call is made beyond that.")
    confirm(backfill_command.ConfirmationUnavailable(), "Nothing was asked.", sure=sure, quiet=quiet)


def _carried_out(proposed: ProposedShadow, places: Stores, cap: int, by: str, *, quiet: bool) -> Shadow:
    if quiet or not console.is_terminal:
        return carry_out(proposed, places, cap_nusd=cap, by=by, say=_say(quiet), report=errors.print)
    with drawn_bar("Asking") as update:
        return carry_out(
            proposed, places, cap_nusd=cap, by=by,
            say=lambda line: update(description=line),
            advance=lambda done, total: update(completed=done, total=total), report=errors.print,
        )  # fmt: skip


@app.command("list")
def list_shadows(
    name: Annotated[str | None, typer.Argument(metavar="[COLLECTION]", help="One collection; all by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """What was compared, the newest first."""
    names = [collection(name).name] if name else [each.name for each in all_collections()]
    with stores_to_read().state.read() as connection:
        found = records.find(connection, names)
    if as_json:
        print_json([each.plain() for each in found])
        return
    if not found:
        console.print("Nothing was compared yet: see docs/shadow.md.")
        return
    rows = [
        (
            each.collection, each.name, ", ".join(variant.name for variant in each.spec.variants), each.made_at[:16],
            each.made_by, each.state if each.promoted is None else f"promoted {each.promoted}",
            "" if each.results is None else each.results.verdict.said,
        )
        for each in found
    ]  # fmt: skip
    table("Shadows", ("collection", "name", "variants", "when (UTC)", "by", "state", "verdict"), rows)


@app.command("show")
def show(name: CollectionName, shadow: ShadowName, as_json: AsJson = False) -> None:
    """What came of one: changes, examples, quality, prices."""
    chosen = collection(name)
    with stores_to_read().state.read() as connection:
        found = records.named(connection, chosen.name, shadow)
        documents = records.documents_of(connection, found)
    if as_json:
        print_json(_plainly(found, documents))
    else:
        _show(chosen, found, documents)


@app.command("promote")
def promote_shadow(
    name: CollectionName,
    shadow: ShadowName,
    variant: OfVariant = None,
    migrate: Annotated[
        bool, typer.Option("--migrate", help="Start the backfill that asks about all documents.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Start it without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the compared prompt into the declared file; of another route, print a patch of the declaration."""
    chosen = collection(name)
    with stores() as places:
        with places.state.read() as connection:
            found = records.named(connection, chosen.name, shadow)
        _promote(chosen, places, found, variant, migrate=migrate, yes=yes, as_json=as_json)


def _promote(
    chosen: Collection, places: Stores, shadow: Shadow, wanted: str | None, *, migrate: bool, yes: bool, as_json: bool
) -> None:  # fmt: skip
    variant = chosen_variant(shadow, wanted)
    made = promote(chosen, shadow, variant)
    if made.written is not None:
        records.mark_promoted(places.state, shadow, variant.name)
    stage = shadow.spec.stage
    command = shlex.join(["ai-assets", "backfill", chosen.name, "--stage", stage])
    found = None
    if made.written is not None and not made.patch:
        found = migration_plan(Catalog(home()).load(chosen.name), places, stage)
    if as_json:
        print_json({
            "collection": chosen.name, "shadow": shadow.name, "variant": made.variant, "version": made.version,
            "written": str(made.written) if made.written else None, "patch": made.patch or None, "next": command,
            "migration": None if found is None else described(found),
        })  # fmt: skip
    else:
        _say_promoted(made)
        price = "" if found is None else f" ({plural(found.new_calls, 'new call')}, {interval(found.money)})"
        console.print(f"All documents of '{stage}'{price}: {command}")
    if migrate and not made.patch:
        backfill_command.backfill(name=chosen.name, stage=[stage], yes=yes, as_json=as_json)


def _say_promoted(made: Promotion) -> None:
    if made.written is not None:
        also = f", declared in {made.declared}" if made.declared else ""
        console.print(f"Written: {made.written}, version {made.version}{also}.")
        console.print("Runs that are under way end with the prompt they began with; the next run asks the new one.")
    if made.patch:
        console.print("The route is for you to change. Apply this in the folder that holds collections/:")
        console.print(made.patch.rstrip())


# What came of it


def _plainly(shadow: Shadow, documents: Sequence[ComparedDocument]) -> dict[str, Any]:
    return {**shadow.plain(), "documents": [each.model_dump(mode="json") for each in documents]}


def _show(chosen: Collection, shadow: Shadow, documents: Sequence[ComparedDocument], *, promotes: bool = False) -> None:
    spec, results = shadow.spec, shadow.results
    told = f"stage '{spec.stage}' against {spec.compared_with}, by {shadow.made_by}, {shadow.made_at[:16]} UTC"
    console.print(led(f"{chosen.name} {shadow.name}: ", "bold", told))
    if results is None:
        console.print("Not all of it was asked. Give its command again to go on; what was answered is not paid again.")
        return
    for result in results.variants:
        _show_variant(spec.kind, result, [each for each in documents if each.variant == result.name])
    console.print(results.verdict.said, style="bold")
    for note in results.notes:
        console.print(note)
    if shadow.promoted:
        console.print(f"Promoted: {shadow.promoted}.")
    elif not promotes:
        console.print(f"Use it: ai-assets shadow promote {chosen.name} {shadow.name}")


def _show_variant(kind: str, found: VariantResult, documents: Sequence[ComparedDocument]) -> None:
    share = f" ({found.changed / found.documents:.1%})" if found.documents else ""
    console.print(
        f"\n{found.name}: {found.changed} of {plural(found.documents, 'answer')} differ{share}.", style="bold"
    )
    if found.unanswered:
        console.print(f"{plural(found.unanswered, 'document')} without an answer of the variant.")
    if found.moves:
        moves = [(each.live or "(none)", each.new or "(none)", each.documents) for each in found.moves[:MOST_MOVES]]
        table("", ("live", "new", "documents"), moves, ("documents",))
    changed = [each for each in documents if each.is_changed][:MOST_EXAMPLES]
    if changed and kind == "classify":
        rows = [(each.document_id, each.live_said or "(none)", each.new_said or each.why or "", each.golden or "")
                for each in changed]  # fmt: skip
        table("Side by side", ("document", "live", "new", "golden"), rows)
    elif changed:
        calls = [(each.document_id, each.live_call or "", each.new_call or each.why or "") for each in changed]
        table("Side by side (ai-assets answer CALL)", ("document", "live", "new"), calls)
    if found.quality is not None:
        each = found.quality
        bounds = "" if each.low is None or each.high is None else f" {between(each.low, each.high)}"
        console.print(
            f"Right on {plural(each.n, 'golden document')}: {each.live_right} live, {each.new_right} new; difference "
            f"{each.difference:+.3f}{bounds}, {each.better} better, {each.worse} worse, p {each.chance:.3f}."
        )
    if found.slices:
        columns = ("slice", "documents", "changed", "golden", "better", "worse")
        table("Worst slices", columns, [tuple(getattr(each, name) for name in columns) for each in found.slices],
              columns[1:])  # fmt: skip
    sides = [(name, *_side(each)) for name, each in (("live", found.live), ("new", found.new))]
    table("", ("side", "answers", "per document", "p50", "p95"), sides, ("answers", "per document", "p50", "p95"))
    console.print(f"Paid: {dollars(found.paid_nusd)}; {plural(found.reused, 'answer')} reused.")
    if found.migration is not None:
        of = found.migration
        console.print(
            f"All documents: {plural(of.calls, 'new call')}, likely {dollars(of.likely_nusd)} "
            f"({dollars(of.low_nusd)} to {dollars(of.high_nusd)}); {plural(of.answered, 'answer')} there already."
        )


def _side(found: SidePrice) -> tuple[str, ...]:
    waits = ("?" if each is None else f"{each:.2f} s" for each in (found.p50_s, found.p95_s))
    return (f"{found.answers:,}", money(found.per_document_usd), *waits)
