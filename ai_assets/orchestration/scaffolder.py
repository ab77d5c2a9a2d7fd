"""`dg scaffold defs ai_assets.DocumentCollection NAME`: a commented `defs.yaml` that loads, and a first document."""

from typing import Any

import dagster as dg

from ai_assets.base.collection_files import DEFS_FILE
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import check_name
from ai_assets.collection.partition_guess import guess
from ai_assets.collection.scaffolding import defs, unknown_author
from ai_assets.collection.survey import survey
from ai_assets.documents.source import Source

WELCOME = """\
# Welcome

This document is here so that there is one to begin with. Put yours beside it, or let `source.path` in `defs.yaml` name
the folder they are in.
"""


class CollectionScaffolder(dg.Scaffolder[Any]):
    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        name, folder = request.target_path.name, request.target_path
        check_name(name)
        if request.scaffold_format != "yaml":
            raise CollectionInvalid(folder / DEFS_FILE, None, "a collection is declared in YAML: leave out --format")
        documents = folder / "documents"
        documents.mkdir(parents=True, exist_ok=True)
        (documents / "welcome.md").write_text(WELCOME, encoding="utf-8")
        found = survey(Source.at(str(documents)).look(), lambda _: None)
        fitting = guess(name, [file.path for file in found.documents])
        text = defs(name, "documents", found, fitting, unknown_author(0))
        (folder / DEFS_FILE).write_text(text, encoding="utf-8")
