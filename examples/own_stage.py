"""A stage of one's own: the names in a document are found by a model and taken out of its text.

In `defs.yaml`: `{name: redacted, kind: function, function: "examples.own_stage:redact", route: default}`.
"""

from typing import Any

from ai_assets import Document, Quarantine, Stage, stage

NAMES = {
    "type": "object",
    "properties": {"names": {"type": "array", "items": {"type": "string"}}},
    "required": ["names"],
}
SHORT = 20


@stage(version="1", columns={"redacted": str, "names": list[str], "found": int})
async def redact(document: Document, ctx: Stage) -> dict[str, Any]:
    """A row is a document with the names in it taken out."""
    if len(document.text) < SHORT:
        raise Quarantine(f"shorter than {SHORT} characters")
    found = await ctx.ask(f"List the names of people in this document.\n{document.quoted}", schema=NAMES)
    names = sorted({name for name in found.data["names"] if name.strip() and name in document.text})
    text = document.text
    for name in names:
        text = text.replace(name, "[name]")
    return {"redacted": text, "names": names, "found": len(names)}
