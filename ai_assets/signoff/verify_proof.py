"""python3 verify_proof.py PROOF.json [--key KEY]...    Checks what `ai-assets audit prove` wrote; needs only Python 3.8.
The checkpoint is a note of c2sp.org/signed-note (Ed25519, RFC 8032), the tree below it that of RFC 9162."""
import base64, json, sys
from hashlib import sha256, sha512
P, ORDER, D = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493, -121665 * pow(121666, -1, 2**255 - 19)
sys.excepthook = lambda kind, error, _: print(f"NOT PROVED: malformed ({kind.__name__}: {error!a}).", file=sys.stderr)
def need(so: object, problem: str) -> None: so or sys.exit(f"NOT PROVED: {problem}.")
def sha(text: str, mark: bytes = b"") -> str: return sha256(mark + text.encode("utf-8", "surrogatepass")).hexdigest()
def exact(text: str) -> bytes:  # base64 in its one form, so that no other text means the same
    return base64.b64decode(text) if base64.b64encode(base64.b64decode(text)).decode() == text else sys.exit("NOT PROVED")
def climb(node: str, path: "list[str]", mark: bytes) -> str:  # "<" or ">": on which side the other hash is
    for step in path:
        need(step[0] in "<>" and set(step[1:]) <= set("0123456789abcdef"), "a hash is not hexadecimal")
        node = sha256(mark + bytes.fromhex(step[1:] + node if step[0] == "<" else node + step[1:])).hexdigest()
    return node
def add(p: "tuple[int, int]", q: "tuple[int, int]") -> "tuple[int, int]":
    (a, b), (c, d), t = p, q, D * p[0] * p[1] * q[0] * q[1] % P
    return (a * d + b * c) * pow(1 + t, -1, P) % P, (b * d + a * c) * pow(1 - t, -1, P) % P
def times(n: int, p: "tuple[int, int]") -> "tuple[int, int]":
    return add(times(n - 1, p), p) if n % 2 else times(n // 2, add(p, p)) if n else (0, 1)
def point(data: bytes) -> "tuple[int, int]":
    y = int.from_bytes(data, "little") % 2**255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P) * (1 if pow(square, (P - 1) // 4, P) == 1 else pow(2, (P - 1) // 4, P)) % P
    return (x if x % 2 == data[31] >> 7 else P - x), y
def signed(public: bytes, text: str, signature: bytes) -> bool:
    (x, y), s = point(public), int.from_bytes(signature[32:], "little")
    h = int.from_bytes(sha512(signature[:32] + public + text.encode()).digest(), "little") % ORDER
    x, y = add(times(s, point(b"\x58" + b"\x66" * 31)), times(h, (P - x, y)))
    return len(signature) == 64 and s < ORDER and (y | x % 2 << 255).to_bytes(32, "little") == signature[:32]
proof, keys, trusted = json.load(open(sys.argv[1], encoding="utf-8")), {}, sys.argv[3::2]
need(len(proof) - ("document" in proof) == 5 and proof["format"] == "ai-assets proof 1", "it is not of format 1")
for key in proof["keys"]:
    name, mark, public = key.split("+", 2)
    need(key in trusted or not trusted, f"{key!a} is not a key you trust")
    need(sha256(name.encode() + b"\n" + exact(public)).hexdigest()[:8] == mark and exact(public)[0] == 1, f"bad {key!a}")
    keys.setdefault(name, []).append((mark, exact(public)[1:]))
origin, size, root = (body := proof["checkpoint"].split("\n\n")[0]).split("\n")
raw = exact(proof["checkpoint"][len(f"{body}\n\n— {origin} ") : -1])
need(proof["checkpoint"].startswith(f"{body}\n\n— {origin} ") and proof["checkpoint"][-1] == "\n", "it is no note")
need(any(mark == raw[:4].hex() and signed(key, body + "\n", raw[4:]) for mark, key in keys[origin]), "it is not signed")
for leaf, path in proof["records"]: need(climb(sha(leaf, b"\0"), path, b"\1") == exact(root).hex(), "a record is another")
release = {k: v if isinstance(v, str) else v[0] for k, v in json.loads(proof["release"]).items()}  # or [it, the policies]
head, *rest = (json.loads(leaf) for leaf, _ in proof["records"])
need(head["action"] == "published" and sha(proof["release"]) == head["subject"]["digest"], "not what was published")
for r in rest:  # a decision is signed with a key that runs do not hold; one from before there were keys is not signed
    text = json.dumps([r[name] for name in "seq recorded_at actor action subject previous_hash".split()], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    said, raw = f"ai-assets audit record\n{origin[10:]}\n{sha(text)}", exact(r["signature"] or "")
    need(not raw or any(signed(key, said, raw) for _, key in keys[f"{origin}/decision"]), "a decision is forged")
for part, digest in release.items():
    by = [r for r in rest if (r["action"], r["subject"]["partition"], r["subject"]["digest"]) == ("approved", part, digest)]
    need(any(r["subject"]["complete"] for r in by), f"{part!a} was not approved as it was published")
    print(f"{part!a}, {digest[:12]}: approved by", ", ".join(f"{r['actor']!a} (record {r['seq']})" for r in by))
for told in [proof["document"]] if "document" in proof else []:
    (row, _), of = json.loads(told["content"]), json.loads(told["candidate"])
    node = climb(sha(f"{row['document_id']}\n{sha(told['content'])}", b"leaf:"), told["path"], b"node:")
    need(node == of["documents"] and sha(told["candidate"]) == release[of["partition"]], "the document is another")
    print(f"Document {row['document_id']!a} is in it:", ascii({k: v for k, v in row.items() if len(str(v)) < 200}))
print("PROVED: release {release} of {collection!a}".format(**head["subject"]), f"is what record {head['seq']} of {size} says.")
print("By keys that you trust." if trusted else "WARNING: by keys that only the file itself names. Pass --key.")
