"""What is live, as a retriever of LangChain: over HTTP from `ai-assets serve`, so also from another machine."""

from typing import Any

import httpx
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import Field, SecretStr


class SignedRetriever(BaseRetriever):
    """The best passages of the live release; each says of which release it is, and who signed it."""

    url: str = "http://localhost:3002"
    collection: str
    token: SecretStr | None = None
    k: int = 5
    labels: dict[str, str] = Field(default_factory=dict)
    """By stage, what it must say of the document."""

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        with httpx.Client(**self._options) as client:
            return self._documents(client.get(self._path, params=self._asked(query)))

    async def _aget_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        async with httpx.AsyncClient(**self._options) as client:
            return self._documents(await client.get(self._path, params=self._asked(query)))

    @property
    def _options(self) -> dict[str, Any]:
        token = self.token.get_secret_value() if self.token else None
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return {"base_url": self.url, "headers": headers, "timeout": 30}

    @property
    def _path(self) -> str:
        return f"/v1/{self.collection}/search"

    def _asked(self, query: str) -> dict[str, Any]:
        return {"q": query, "k": self.k, "label": [f"{stage}:{value}" for stage, value in self.labels.items()]}

    def _documents(self, answer: httpx.Response) -> list[Document]:
        said = answer.json()
        if answer.status_code != httpx.codes.OK:
            raise ValueError(said.get("error", answer.text))  # one sentence, such as that the token does not count
        about = {"collection": said["collection"], "release": said["release"], "digest": said["digest"]}
        return [
            Document(id=hit["chunk_id"], page_content=hit.pop("text"), metadata={**about, **hit})
            for hit in said["hits"]
        ]
