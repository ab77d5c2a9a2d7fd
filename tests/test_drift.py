"""Claims about drift: what is found, what is left alone, what is undecided, and what it holds back."""

import random
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import STAGE, Project
from desks import Visitor, desk_of, served
from signing import current, decide, known

from ai_assets.base.errors import UserError
from ai_assets.collection.drift_settings import DriftSettings
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.evaluation.drift import compare, judge_drift
from ai_assets.evaluation.profile import VECTORS, WORDS, Profile, ProfileBuilder, Reference
from ai_assets.forgetting.erasing import forget
from ai_assets.run.context import Outcome
from ai_assets.run.errors import PartitionsFailed
from ai_assets.signoff.publication import publish

GERMAN = ("lager pumpe wasser halle rechnung vertrag zahlung förderband betrag montag schicht tor schlüssel").split()
ENGLISH = ("store pump water hall invoice contract payment conveyor amount monday shift gate key door belt").split()
DAYS = [f"2026-10-{day:02d}" for day in range(5, 10)]
PARTITIONS = {"by": "day", "start": "2026-10-05", "end": "2026-10-09"}


def row(number: int, seed: int, words: list[str] = ENGLISH, **said: Any) -> dict[str, Any]:
    chosen = random.Random(f"{seed} {number}")
    text = " ".join(chosen.choice(words) for _ in range(40))
    found = {"document_id": f"{seed}/{number}", "path": f"a/{seed}-{number}.txt", "status": "ok", "language": "en"}
    return {**found, "text": text, **said}


def profile(rows: list[dict[str, Any]], vectors: "np.ndarray[Any, Any] | None" = None) -> Profile:
    builder = ProfileBuilder(labels=["kind_label"], sure=["kind_confidence"], slices=["language"], space="s")
    for each in rows:
        builder.add({"kind_label": "note", "kind_confidence": 0.8, **each})
    for number, vector in enumerate(vectors if vectors is not None else ()):
        builder.add_vector(f"{rows[0]['document_id']} {number}", vector)
    return builder.profile()


def before(partitions: int = 4, documents: int = 60) -> Reference:
    return Reference(profiles=[profile([row(n, seed) for n in range(documents)]) for seed in range(partitions)])


def drifted(new: Profile, reference: Reference, **declared: Any) -> set[str]:
    found = compare(new, {"release 1": reference}, DriftSettings(**declared), 1)
    return {each.place for each in found if each.drifted}


# Comparisons


def test_what_looks_as_before_does_not_drift() -> None:
    assert drifted(profile([row(n, 9) for n in range(80)]), before()) == set()


def test_a_side_that_others_were_held_against_finds_the_same_as_one_that_is_put_together_anew() -> None:
    """Also after one of fewer words, whose vocabulary ends earlier or later than that of the side."""
    many = [f"word{number}" for number in range(20_000)]
    sides = [profile([row(n, seed, many) for n in range(300)]) for seed in range(3)]
    shared = Reference(profiles=sides)
    assert min(each.below for each in sides) < 2**32 - 1
    for seed, number in ((7, 80), (8, 900), (9, 60), (10, 900)):
        new = profile([row(n, seed, many) for n in range(number)], np.random.default_rng(seed).normal(size=(50, 4)))
        anew = Reference(profiles=sides)
        assert compare(new, {"it": shared}, DriftSettings(), 3) == compare(new, {"it": anew}, DriftSettings(), 3)
        words, known = set(new.asked[0].tolist()), set().union(*(each.words.tolist() for each in sides))
        below = min(each.below for each in [new, *sides])
        counted = [word for word in words if word <= below]
        assert shared.unseen(new)[0][0] == pytest.approx(sum(word not in known for word in counted) / len(counted))


@pytest.mark.parametrize(
    ("place", "changed"),
    [
        ("language", {"language": "de"}),
        ("source", {"path": "b/x.txt"}),
        ("kind_label", {"kind_label": "bill"}),
        ("kind_confidence", {"kind_confidence": 0.35}),
        ("length", {"text": "short note"}),
    ],
)
def test_each_mix_that_moves_is_found_by_its_name_and_says_what_moved(place: str, changed: dict[str, Any]) -> None:
    new = profile([row(n, 9, **(changed if n % 2 else {})) for n in range(120)])
    found = compare(new, {"release 1": before()}, DriftSettings(), 1)
    told = next(each for each in found if each.place == place)
    assert told.drifted
    assert "to 50%" in told.in_words


@pytest.mark.parametrize("path", ["2026-10-05/mail/1.txt", "2026/10/06/mail/2.txt", "mail/2026/3.txt", "mail/4.csv#12"])
def test_a_folder_that_is_a_date_is_no_source(path: str) -> None:
    assert list(profile([row(1, 1, path=path)]).counts["source"][""]) == ["mail"]


def test_files_that_can_no_longer_be_read_are_drift() -> None:
    broken = {"status": "quarantined", "text": "", "language": None}
    assert "readable" in drifted(profile([row(n, 9, **(broken if n % 3 == 0 else {})) for n in range(150)]), before())


def test_words_that_nothing_published_has_are_found_and_a_larger_partition_alone_is_none() -> None:
    assert "unseen words" in drifted(profile([row(n, 9, GERMAN) for n in range(80)]), before())
    assert "unseen words" not in drifted(profile([row(n, 9) for n in range(900)]), before())


def test_vectors_of_another_subject_are_found_and_those_of_another_embedder_are_not_compared() -> None:
    rng = np.random.default_rng(1)
    rows = [row(n, 1) for n in range(60)]
    reference = Reference(
        profiles=[profile([row(n, s) for n in range(60)], rng.normal(size=(60, 8))) for s in range(3)]
    )
    moved = profile(rows, rng.normal(size=(60, 8)) + 1.0)
    assert "vectors" in drifted(moved, reference)
    moved.space = "another"
    assert "vectors" not in drifted(moved, reference)


def test_a_slice_that_moves_within_a_steady_whole_is_found() -> None:
    def some(seed: int, *, swapped: bool) -> list[dict[str, Any]]:
        found = []
        for n in range(400):
            german = n % 2 == 0
            bill = (n % 4 < 2) if swapped else german
            found.append(row(n, seed, language="de" if german else "en", kind_label="bill" if bill else "note"))
        return found

    new, old = profile(some(9, swapped=True)), Reference(profiles=[profile(some(1, swapped=False))])
    assert drifted(new, old) == {"kind_label within language de", "kind_label within language en"}


def test_too_few_documents_are_undecided_with_the_number_that_is_missing() -> None:
    found = compare(profile([row(n, 9) for n in range(12)]), {"release 1": before()}, DriftSettings(), 1)
    verdict = judge_drift(found, 12, 1, DriftSettings())
    assert (verdict.verdict, verdict.holds) == ("undecided", False)
    assert "38 more documents needed" in verdict.sentence
    held = judge_drift(found, 12, 1, DriftSettings(undecided="block", blocks="yes"))
    assert held.stops


@pytest.mark.slow
def test_of_partitions_that_only_chance_parts_hardly_any_raises_an_alarm() -> None:
    """Of 100, with 1 % declared over all comparisons of each: more than 5 would be one in a thousand."""
    reference = before(6, 80)
    alarms = sum(bool(drifted(profile([row(n, seed) for n in range(80)]), reference)) for seed in range(100, 200))
    assert alarms <= 5


# Profiles


def test_a_profile_is_small_whatever_it_is_of_and_is_kept_as_it_is() -> None:
    vectors = np.random.default_rng(1).normal(size=(700, 16))
    words = [f"w{number}" for number in range(40_000)]
    rows = [row(n, 1, words, path=f"{n % 700}/x.txt") for n in range(3000)]
    found = profile(rows, vectors)
    assert (len(found.words), found.vectors.shape) == (WORDS, (VECTORS, 16))
    again = Profile.of(found.encoded())
    assert again is not None
    assert (again.documents, again.counts, again.below) == (found.documents, found.counts, found.below)
    assert np.allclose(again.vectors, found.vectors, atol=0.01)
    assert [list(each) for each in again.asked] == [list(each) for each in found.asked]
    assert len(found.encoded()) < 200_000


def test_the_order_of_the_rows_is_not_in_a_profile() -> None:
    rows = [row(n, 1) for n in range(300)]
    one, other = profile(rows), profile(rows[::-1])
    assert one.encoded() == other.encoded()


@pytest.mark.parametrize("data", [b"", b"PK", b"nonsense"])
def test_a_damaged_profile_is_none(data: bytes) -> None:
    assert Profile.of(data) is None
    assert Profile.of(profile([row(1, 1)]).encoded()[:-40]) is None


# In a collection


def write(project: Project, day: str, words: list[str], number: int = 30) -> None:
    for n in range(number):
        project.document(f"{day}/{n}.txt", row(n, int(day[-2:]), words)["text"])


def released(project: Project, **drift: Any) -> Collection:
    """Four days are published, and the fifth speaks another language."""
    for day in DAYS[:4]:
        write(project, day, ENGLISH)
    collection = project.declare(partitions=PARTITIONS, drift={"least": 20, **drift}, stages=[STAGE])
    project.refresh(collection, DAYS[:4])
    stores = project.stores()
    decide(stores.state, collection)
    publish(collection, stores, by="test")
    write(project, DAYS[4], GERMAN)
    return collection


def checked(project: Project, collection: Collection, day: str) -> Any:
    return next(
        event for event in project.events(collection, [day])
        if not isinstance(event, Outcome) and getattr(event, "name", "") == "drift"
    )  # fmt: skip


def test_a_drifted_partition_is_told_and_not_held_back_unless_that_is_declared(project: Project) -> None:
    collection = released(project)
    check = checked(project, collection, DAYS[4])
    assert (check.passed, check.blocking) == (False, False)
    assert any("unseen words" in said for said in check.failures)
    request = current(project.stores().state, DAYS[4])
    assert request.status == "open"
    assert "drift" not in [verdict.name for verdict in request.verdicts]
    said = project.cli("signoff", "show", "notes", DAYS[4]).stdout
    assert "DRIFTED unseen words against release 1" in " ".join(said.split())


def test_a_partition_like_the_others_is_alike(project: Project) -> None:
    collection = released(project)
    write(project, DAYS[4], ENGLISH)
    assert checked(project, collection, DAYS[4]).passed


def test_drift_that_may_be_waived_needs_a_reason(project: Project) -> None:
    collection = released(project, blocks="waivable")
    project.refresh(collection, [DAYS[4]])
    state = project.stores().state
    with pytest.raises(UserError, match="drift"):
        decide(state, collection, [DAYS[4]])
    decide(state, collection, [DAYS[4]], waivers={"drift": "the plant in Ulm has joined"})
    assert current(state, DAYS[4]).status == "approved"


def test_drift_that_nobody_may_waive_asks_nobody(project: Project) -> None:
    collection = released(project, blocks="yes")
    with pytest.raises(PartitionsFailed, match=r"drift: .*against .*No release candidate was made"):
        project.refresh(collection, [DAYS[4]])
    with project.stores().state.read() as connection:
        from ai_assets.signoff import requests

        assert requests.latest_of(connection, "notes", DAYS[4]) is None
    write(project, DAYS[4], ENGLISH)
    project.refresh(collection, [DAYS[4]])
    assert current(project.stores().state, DAYS[4]).status == "open"


@pytest.mark.parametrize(("written", "read"), [("no", "no"), ("yes", "yes"), ("waivable", "waivable")])
def test_whether_it_blocks_is_read_as_it_is_written(written: str, read: str) -> None:
    """YAML reads a plain `no` as false."""
    assert DriftSettings.model_validate(yaml.safe_load(f"blocks: {written}")).blocks == read


def test_the_first_release_has_nothing_to_be_held_against(project: Project) -> None:
    write(project, DAYS[0], ENGLISH)
    collection = project.declare(partitions=PARTITIONS, drift={"blocks": "yes"})
    project.refresh(collection, [DAYS[0]])
    [verdict] = [each for each in current(project.stores().state, DAYS[0]).verdicts if each.name == "drift"]
    assert (verdict.verdict, verdict.holds) == ("undecided", False)
    assert "no release is live" in verdict.sentence


def test_profiles_go_with_a_forgotten_document_and_are_made_again(project: Project) -> None:
    collection = released(project)
    project.refresh(collection, [DAYS[4]])
    kept = list(project.home.drift.rglob("*.npz"))
    assert kept
    ann = known(project.stores().state, "ann", "admin")
    forget(project.stores(), collection, f"{DAYS[0]}/0.txt", by=ann, reason="asked to")
    assert not list(project.home.drift.rglob("*.npz"))
    write(project, DAYS[4], ENGLISH)
    assert checked(project, collection, DAYS[4]).passed


def test_the_page_shows_what_moved(project: Project) -> None:
    collection = released(project)
    project.refresh(collection, [DAYS[4]])
    request = current(project.stores().state, DAYS[4])
    known(project.stores().state, "ann")
    with served(desk_of(project)) as desk:
        visitor = Visitor(desk.url)
        visitor.sign_in("ann")
        page = visitor.get(f"/requests/{request.request_id}").text
        visitor.http.close()
    assert 'id="drift"' in page
    assert "unseen words against release 1" in page
    assert "the 30 partitions before it" not in page  # which are all of the release


# What is declared


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"against": ["lives"]}, "against"),
        ({"against": ["live", "live"]}, "twice"),
        ({"mix": 0}, "mix"),
        ({"significance": 0}, "significance"),
        ({"least": 3}, "least"),
        ({"slices": ["label"]}, "slices"),
        ({"undecided": "block"}, "cannot block"),
        ({"mixx": 1}, "did you mean 'mix'"),
    ],
)
def test_what_is_declared_wrongly_is_refused_with_its_place(
    project: Project, declared: dict[str, Any], said: str
) -> None:
    with pytest.raises(CollectionInvalid, match=said) as raised:
        project.declare(drift=declared)
    assert "defs.yaml:" in str(raised.value)


@pytest.mark.parametrize(
    ("by", "sides"), [("day", ("live", "trailing")), ("folder", ("itself",)), ("shards", ("live",))]
)
def test_what_a_candidate_is_held_against_follows_the_partitions(
    project: Project, by: str, sides: tuple[str, ...]
) -> None:
    partitions = {"day": PARTITIONS, "folder": {"by": "folder"}, "shards": {"by": "shards", "count": 4}}[by]
    collection = project.declare(partitions=partitions, drift={})
    assert collection.settings.drift is not None
    assert collection.settings.drift.sides(collection.settings.partitions) == sides
