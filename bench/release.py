"""Somebody signs all that waits of a collection, and it is published."""

from ai_assets.collection.loading import Collection
from ai_assets.signoff import decisions, passwords, people, requests
from ai_assets.signoff.people import Person
from ai_assets.signoff.publication import publish
from ai_assets.storage.stores import Stores


def sign_and_publish(collection: Collection, stores: Stores) -> Person:
    """Gates that hold something are waived, where they can be; who signed is made known for it."""
    with stores.state.write() as connection:
        people.add(connection, "ann", email=None, password_hash=passwords.hashed("a walk in the rain"), by="bench")
        people.give(connection, "ann", "approver", "*", by="bench")
    rules = collection.settings.signoff
    with stores.state.read() as connection:
        ann = people.find(connection, "ann")
        choices = decisions.waiting(connection, collection.name, None, rules)
        asked = [requests.get(connection, choice.request_id) for choice in choices]
    assert ann is not None
    waived = {each.name: "of a bench" for one in asked if one for each in decisions.holding(one)}
    decisions.decide(
        stores.state, collection.name, choices, "approve", by=ann, reason=None, rules=rules, waivers=waived
    )
    publish(collection, stores, by="ann")
    return ann
