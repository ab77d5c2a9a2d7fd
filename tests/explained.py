"""A collection whose stages asked models, published twice, for claims about where its rows come from."""

from conftest import Project
from signing import decide, known
from test_llm_stages import BILL, DAY, FIRE, PRICED
from test_stage_settings import FACTS, KIND, declare

from ai_assets.collection.loading import Collection
from ai_assets.signoff.publication import publish

CHANGED, SAME = f"{DAY}/bill-0.txt", f"{DAY}/fire-0.txt"


def asked_and_published(project: Project) -> Collection:
    """Release 2 differs from 1 in one document, which was asked about again."""
    (project.root / "inference.yaml").write_text(PRICED)
    project.document(CHANGED, BILL.format(n=1))
    project.document(SAME, FIRE.format(n=1))
    collection = declare(project, [KIND, {**FACTS, "when": {"kind": ["invoice"]}}])
    stores = project.stores()
    known(stores.state)
    project.refresh(collection, [DAY])
    for number in (1, 7):
        if number != 1:
            project.edit(collection, CHANGED, BILL.format(n=number))
        decide(stores.state, collection)
        publish(collection, stores, by="ann")
    return collection
