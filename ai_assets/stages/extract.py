"""`extract`: what a JSON schema asks for, from each document."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from ai_assets.collection.errors import CollectionInvalid
from ai_assets.stages.base import PromptStage, Row
from ai_assets.stages.columns import ColumnType
from ai_assets.stages.prompt import DEFAULTS, clean
from ai_assets.stages.quotes import missing_quotes, quotes_of, wrong_quotes
from ai_assets.stages.schema import SchemaWrong, check_schema
from ai_assets.storage.digest import Json

if TYPE_CHECKING:
    from ai_assets.inference.records import Answer


class ExtractStage(PromptStage):
    """Fills in a JSON schema from each document."""

    DESCRIPTION: ClassVar[str] = (
        "A row is a document with what the schema asks for, as JSON; or why it has none. Stale when the document, the "
        "prompt, the schema, the model or what the prompt uses change."
    )
    COLUMNS: ClassVar[Mapping[str, ColumnType]] = {"data": "text", "evidence_found": "truth"}
    HEADLINE: ClassVar[str] = "data"
    PROMPT: ClassVar[Path] = DEFAULTS / "extract.md"
    OUTPUT_TOKENS: ClassVar[tuple[int, int]] = (15, 130)
    AROUND_BYTES: ClassVar[int] = 1500

    kind: Literal["extract"]
    output_schema: dict[str, Any] | str = Field(alias="schema")
    """A JSON schema with `type: object`, or the path of a .json file that holds one."""

    def answer_schema(self, folder: Path) -> Mapping[str, Json]:
        if isinstance(self.output_schema, str):
            return _schema_of_file(folder / self.output_schema)
        try:
            check_schema(self.output_schema)
        except SchemaWrong as error:
            raise SchemaWrong(str(error), ("schema", *error.at)) from error
        return self.output_schema

    def complaint(self, answer: "Answer", text: str) -> str | None:
        return wrong_quotes(quotes_of(answer.data), text)

    def read(self, answer: "Answer", text: str) -> Row | str:
        if not isinstance(answer.data, Mapping):
            return "invalid_output: not an object"
        try:
            data = clean(json.dumps(answer.data, ensure_ascii=False, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            return f"invalid_output: {error}"
        quotes = quotes_of(answer.data)
        return {"data": data, "evidence_found": not missing_quotes(quotes, text) if quotes else None}


def _schema_of_file(path: Path) -> Mapping[str, Json]:
    if not path.is_file():
        raise SchemaWrong(f"the schema file {path} does not exist", ("schema",))
    try:
        found: Any = json.loads(path.read_bytes().decode("utf-8"))
        if not isinstance(found, dict):
            raise SchemaWrong("should be an object", ())
        check_schema(found)
    except UnicodeDecodeError as error:
        raise CollectionInvalid(path, None, f"not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise CollectionInvalid(path, error.lineno, f"not valid JSON: {error.msg}") from error
    except RecursionError as error:
        raise CollectionInvalid(path, None, "it is nested too deep") from error
    except SchemaWrong as error:
        where = ".".join(str(part) for part in error.at)
        raise CollectionInvalid(path, None, f"{where + ': ' if where else ''}{error}") from error
    return found
