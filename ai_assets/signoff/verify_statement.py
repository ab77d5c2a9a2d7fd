"""python3 verify_statement.py STATEMENT.json [--key KEY]...    Checks what `ai-assets explain --in-toto` wrote.

A DSSE envelope around an in-toto statement. `verify_proof.py` must lie beside this file: it checks the proof in the
statement, and brings the arithmetic. Needs only Python 3.8.
"""

import base64
import json
import os
import runpy
import sys
import tempfile
from hashlib import sha256
from typing import Any, NoReturn

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
BESIDE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "verify_proof.py")  # noqa: PTH100, PTH118, PTH120


def refuse(problem: str) -> NoReturn:
    sys.exit(f"NOT PROVED: {problem}.")


def proved(proof: Any, arguments: "list[str]") -> Any:
    """What the other script knows when it has found no fault; it ends this process where it finds one."""
    with tempfile.TemporaryDirectory() as folder:
        name = os.path.join(folder, "proof.json")  # noqa: PTH118
        with open(name, "w", encoding="ascii") as file:  # noqa: PTH123
            json.dump(proof, file)
        sys.argv = [BESIDE, name, *arguments]
        return runpy.run_path(BESIDE)


def main(path: str, arguments: "list[str]") -> None:
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        envelope = json.load(file)
    payload = base64.b64decode(envelope["payload"], validate=True)
    statement = json.loads(payload)
    if (envelope["payloadType"], statement["_type"]) != (PAYLOAD_TYPE, STATEMENT_TYPE):
        refuse("it is no in-toto statement")
    told, known = statement["predicate"]["provenance"], proved(statement["predicate"]["proof"], arguments)
    # The key that signs checkpoints signs statements, over what DSSE calls the pre-authentication encoding.
    text = f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(payload)} {payload.decode('ascii')}"
    keys = [key for _, key in known["keys"][known["origin"]]]
    given = [known["exact"](each["sig"]) for each in envelope["signatures"]]
    if not any(known["signed"](key, text, raw) for key in keys for raw in given):
        refuse("the statement is not signed by the keys of its proof")
    if "row" not in known:
        refuse("its proof is of no document")
    row_sha256 = sha256(known["told"]["content"].encode("utf-8", "surrogatepass")).hexdigest()
    of, document = known["head"]["subject"], known["row"]["document_id"]
    subject = {"name": f"{of['collection']}/{document}", "digest": {"sha256": row_sha256}}
    if statement["subject"] != [subject]:
        refuse("its subject is another row")
    about = (told["collection"], told["release"], told["document"], told["row"])
    if about != (of["collection"], of["release"], document, row_sha256):
        refuse("its provenance is of another row")
    print(f"STATEMENT HOLDS: where row {row_sha256[:12]} comes from, in {len(told['steps'])} steps.")


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2:])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OSError) as error:
        refuse(f"malformed ({type(error).__name__}: {error!a})")
