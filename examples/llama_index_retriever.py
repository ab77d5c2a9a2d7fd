"""What is live, as a retriever of LlamaIndex: read in this process from the home, without a server."""

from typing import Any

from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

import ai_assets


class SignedRetriever(BaseRetriever):
    """The best passages of the live release; each says of which release it is, and who signed it.

    Which release is live is looked up for each question, so a publication or rollback counts from the next one on.
    """

    def __init__(self, collection: str, *, k: int = 5, **where: Any) -> None:
        """`where`: as `ai_assets.live` takes it (`project=`, or `data=` with `trust=`)."""
        super().__init__()
        self._collection, self._k, self._where = collection, k, where

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        live = ai_assets.live(self._collection, **self._where)
        hits = live.search(query_bundle.query_str, self._k)
        partitions = sorted({hit.partition for hit in hits})
        documents = self._rows(live, "documents", "document_id", {hit.document_id for hit in hits}, partitions)
        passages = self._rows(live, "chunks", "chunk_id", {hit.chunk_id for hit in hits}, partitions)
        found = []
        for hit in hits:
            document, passage = documents[hit.document_id], passages[hit.chunk_id]
            about = {
                "collection": live.collection, "release": live.number, "digest": live.digest,
                "document_id": hit.document_id, "partition": hit.partition, "title": hit.title,
                "page": passage.get("page"), "headings": passage.get("headings"), "signed_by": document["signed_by"],
                "labels": {n.removesuffix("_label"): said for n, said in document.items() if n.endswith("_label")},
            }  # fmt: skip
            found.append(NodeWithScore(node=TextNode(id_=hit.chunk_id, text=hit.text, metadata=about), score=hit.score))
        return found

    @staticmethod
    def _rows(
        live: ai_assets.Published, table: str, key: str, wanted: set[str], partitions: list[str]
    ) -> dict[str, dict[str, Any]]:  # fmt: skip
        """Of the rows that were found, what says where they stand and what they are."""
        names = live.schema(table).names
        labels = [f"{stage}_label" for n in names if (stage := n.removesuffix("_model")) != n]  # of each stage
        columns = [n for n in names if n in (key, "page", "headings", "signed_by", *labels)]
        rows = live.arrow(table, columns=columns, partitions=partitions).to_pylist()
        return {row[key]: row for row in rows if row[key] in wanted}
