"""Errors about vectors that a model does not give. They hang below `UserError`.

EmbeddingFailed   passages have no vector for a reason that is not theirs, so their partition has none
QueryNotEmbedded  a question has no vector, so it cannot be searched for
VectorUnusable    the model's vectors are not what is declared
"""

from ai_assets.base.errors import UserError
from ai_assets.base.plural import plural
from ai_assets.inference.records import PASSING


class EmbeddingFailed(UserError):
    """`said` begins with the class of the error."""

    def __init__(self, collection: str, partition: str, document: str, said: str, others: int) -> None:
        self.passes = said.partition(":")[0] in PASSING
        more = f" (and {plural(others, 'more text')} of this partition)" if others else ""
        super().__init__(
            f"A text of document '{document}'{more} could not be embedded: {said.rstrip('.')}. This is not about the "
            "text alone, so nothing was made of this partition. Fix the cause, or leave the document out with "
            f"source.exclude, and run again: ai-assets run {collection} --partition {partition}; what was "
            "embedded is in the ledger and costs nothing."
        )


class QueryNotEmbedded(UserError):
    def __init__(self, collection: str, query: str, said: str) -> None:
        self.passes = said.partition(":")[0] in PASSING
        shown = query if len(query) <= 80 else query[:80] + "…"
        super().__init__(
            f"The query '{shown}' could not be embedded: {said.rstrip('.')}. Try again; if it stays so, look at what "
            f"was asked (ai-assets ledger list --collection {collection}) and at the route in inference.yaml."
        )


class VectorUnusable(UserError):
    def __init__(self, collection: str, endpoint: str, model: str, *, found: int, declared: int) -> None:
        super().__init__(
            f"Endpoint '{endpoint}' (model {model}) gave a vector of {plural(found, 'number')}, and "
            f"collections/{collection}/defs.yaml declares embedding.dimensions: {declared}. Declare what the model "
            "gives or, where it can give shorter vectors when asked, add shorten: true. What was embedded is in the "
            "ledger."
        )
