# ruff: noqa: E501  a hostile file is a row, and a row is a line
"""Claims about files that ask for too much: prompts that fill the memory, YAML that unfolds, texts that take hours."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ai_assets.base.errors import DeclarationInvalid
from ai_assets.base.yaml_settings import read_yaml
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.documents.chunk import chunk_document
from ai_assets.documents.parse_text import Unreadable, refuse_piled_marks
from ai_assets.stages.generate import GenerateStage
from ai_assets.stages.prompt import Example, PromptFailed, Variables, load_prompt

FRONT = "---\nversion: 3\nauthor: ann\n---\n## user\n"
DOCUMENT = {"title": "Pump", "text": "a\tb", "language": "en", "path": "a.txt"}
VAST = "9999999999"
TENFOLD = "{% set x = x ~ x ~ x ~ x ~ x ~ x ~ x ~ x ~ x ~ x %}"
NESTED = "{% set x = [x, x, x, x, x, x, x, x, x, x] %}"


def rendered(folder: Path, body: str, text: str = "a\tb") -> str:
    path = folder / "prompt.md"
    path.write_text(FRONT + body, encoding="utf-8")
    prompt = load_prompt(path, GenerateStage.PROMPT, Variables(given={}, stages={}))
    return prompt.render({**DOCUMENT, "text": text}, {}, [Example(title="T", text="E", output="n")])[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (f"{{{{ 'x' * {VAST} }}}}", "this would have 9,999,999,999 characters, the limit is 20,000,000"),
        (f"{{{{ {VAST} * 'x' }}}}", "9,999,999,999 characters"),
        (f"{{{{ [1] * {VAST} }}}}", "9,999,999,999 items, the limit is 1,000,000"),
        (f"{{{{ 10 ** {VAST} }}}}", "a number of 39,999,999,996 bits"),
        ("{% set x = 2 ** 9000 %}{{ x * x }}", "a number of 18,000 bits"),
        (f"{{{{ 'x'|center({VAST}) }}}}", "a field of the width 9,999,999,999"),
        (f"{{{{ 'x'.center({VAST}) }}}}", "a field of the width"),
        (f"{{{{ 'x'.zfill({VAST}) }}}}", "a field of the width"),
        (f"{{{{ 'x'.expandtabs({VAST}) }}}}", "a field of the width"),
        (f"{{{{ ['x']|map('center', {VAST})|list }}}}", "a field of the width"),
        (f"{{{{ 'x'|indent({VAST}, true) }}}}", "a field of the width"),
        ("{{ '%999999999d' % 1 }}", "a field of the width '%999999999'"),
        ("{{ '%*d' % (999999999, 1) }}", "a field of the width '%*'"),
        ("{{ '%.999999999f'|format(1) }}", "a field of the width '%.999999999'"),
        ("{{ '{:999999999}'.format(1) }}", "a field of the width '999999999'"),
        ("{{ '{:{w}}'.format(1, w=999999999) }}", "a field of the width '999999999'"),
        ("{{ '{a:999999999}'.format_map({'a': 1}) }}", "a field of the width '999999999'"),
        (f"{{{{ (1).to_bytes({VAST}, 'big') }}}}", "'to_bytes' may not be called in a prompt"),
        ("{{ 'x'.encode('utf-32') }}", "'encode' may not be called in a prompt"),
        ("{{ range(100000)|join('x' * 100000) }}", "10,000,488,890 characters"),
        ("{{ ('x' * 100000).join(range(100000)|map('string')) }}", "10,000,488,890 characters"),
        ("{{ ('a' * 1000000)|replace('a', 'b' * 1000000) }}", "1,000,000,000,000 characters"),
        ("{{ ('a' * 1000000).replace('', 'b' * 1000000) }}", "characters, the limit"),
        ("{{ ('a ' * 100000)|wordwrap(1, wrapstring='x' * 100000) }}", "characters, the limit"),
        (f"{{{{ [1]|batch({VAST}, 'x')|list }}}}", "9,999,999,999 pieces"),
        (f"{{{{ [1]|slice({VAST})|list }}}}", "9,999,999,999 pieces"),
        (f"{{{{ 1.5|round({VAST}, 'ceil') }}}}", "9,999,999,999 digits"),
        (f"{{{{ [1]|tojson(indent={VAST}) }}}}", "an indent of 9,999,999,999"),
        ("{% set x = 'abcdefghij' %}" + TENFOLD * 9 + "{{ x }}", "this would have"),
        ("{% set x = [1] %}" + NESTED * 9 + "{{ x }}", "more than 1,000,000 items"),
        ("{% set x = {'a': 1} %}" + NESTED.replace("x, x", "x, {'a': x}") * 9 + "{{ x|tojson }}", "more than 1,000,000 items"),
        ("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", "more than 10,000,000 steps"),
        ("{% for a in range(100000) %}{% for b in range(100000) if b < 0 %}{% endfor %}{% endfor %}", "more than 10,000,000 steps"),
        ("{% for a in range(100000) %}{{ range(100000)|sum }}{% endfor %}", "more than 10,000,000 steps"),
        ("{% for a in range(100000) %}{{ 'x' * 1000 }}{% endfor %}", "characters, the limit is 20,000,000"),
        ("{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}", "a for of a prompt cannot be recursive"),
        ("{% for a in [1] %}" * 30 + "{% endfor %}" * 30, "too many statically nested blocks"),
        ("{{ " + "(" * 3_000 + "1" + ")" * 3_000 + " }}", "it is nested too deep"),
        ("{{ " + "9" * 5_000 + " }}", "Exceeds the limit"),
        ("x" * (1 << 20), "the file has more than 1024 KiB, which is the limit"),
    ],
    ids=lambda value: value[:60] if value[:2] in ("{{", "{%") else "",
)  # fmt: skip
def test_a_prompt_that_asks_for_too_much_is_refused_at_load(tmp_path: Path, body: str, says: str) -> None:
    with pytest.raises(CollectionInvalid) as raised:
        rendered(tmp_path, body)
    assert says in str(raised.value)
    assert "prompt.md" in str(raised.value)


def test_a_prompt_that_asks_for_too_much_of_one_document_costs_that_document(tmp_path: Path) -> None:
    body = "<document>{{ document.text * document.text|length }}</document>"
    assert "a\tba\tba\tb" in rendered(tmp_path, body)
    with pytest.raises(PromptFailed, match=r"25,000,000 characters, the limit is 20,000,000"):
        rendered(tmp_path, body, "x" * 5_000)


@pytest.mark.parametrize(
    ("body", "made"),
    [
        ("{{ 2 ** 10 }} {{ 'ab' * 3 }} {{ [1] * 2 + [3] }} {{ 7 % 3 }} {{ 7 // 2 }}", "1024 ababab [1, 1, 3] 1 3"),
        ("{{ 'a' ~ 1 ~ 'b' }} {{ '%05d|%s' % (3, 'x') }} {{ '%(n)s' % {'n': 1} }}", "a1b 00003|x 1"),
        ("{{ '{:>5}|{}'.format('a', 2) }} {{ '{a}'.format_map({'a': 1}) }} {{ '%s!'|format('a') }}", "a|2 1 a!"),
        ("{{ ['b', 'a']|sort|join(', ') }} {{ ', '.join(['a', 'b']) }} {{ [1, 2]|map('string')|join }}", "a, b a, b 12"),
        ("{% for a, b in [(1, 2), (3, 4)] %}{{ loop.index }}/{{ loop.length }}:{{ a }}{{ b }} {% endfor %}", "1/2:12 2/2:34"),
        ("{% for a in [] %}{{ a }}{% else %}none{% endfor %}{% for a in [1, 2] if a > 1 %}{{ a }}{% endfor %}", "none2"),
        ("{{ '<b>x</b> <!-- c -->y &amp; z'|striptags }} {{ 'a.b'.split('.')|last }} {{ {'a': 1}.get('a') }}", "x y & z b 1"),
        ("<document>{{ document.text|replace('a', 'b')|upper|indent(2) }}</document>", "<document>B\tB</document>"),
        ("{{ 'x'|center(5) }}|{{ 1.26|round(1) }}|{{ [1, 2, 3]|batch(2, 0)|list }}", "x  |1.3|[[1, 2], [3, 0]]"),
    ],
)  # fmt: skip
def test_what_prompts_are_made_of_works_as_before(tmp_path: Path, body: str, made: str) -> None:
    assert rendered(tmp_path, body) == made


class Invalid(DeclarationInvalid):
    """A file is wrong."""


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
)
MERGED = "a0: &a0 {k: 1}\n" + "".join(
    f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 10)}]}}\n" for level in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BOMB, ":5: this has more values than 100,000, which is the limit, with each alias (*name) counted"),
        (MERGED, "this has more values than 100,000"),
        ("- " * 50_000 + "x\n", "nested too deep"),
        ("{" * 900 + "\n", "nested too deep"),
        ("[" * 100_000 + "\n", "nested too deep"),
        ("a: &a [*a]\n", "a part of it contains itself"),
        (f"a: {'9' * 5_000}\n", ":1: a number of 5,000 characters"),
        (f"a: 1{':1' * 100_000}\n", ":1: a number of 200,001 characters"),
        ("a: " + "x" * (1 << 20), "the file has more than 1024 KiB"),
    ],
    ids=["aliases", "merged", "deep list", "braces", "brackets", "itself", "digits", "base 60", "large"],
)
def test_yaml_that_unfolds_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(Invalid) as raised:
        read_yaml(path, Invalid)
    assert says in str(raised.value)
    assert len(str(raised.value)) < 500


def test_aliases_as_people_use_them_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: &a {k: [1, 2]}\nb: *a\nc: {<<: *a, d: 3}\n")
    assert read_yaml(path, Invalid)[1] == {"a": {"k": [1, 2]}, "b": {"k": [1, 2]}, "c": {"k": [1, 2], "d": 3}}


# Texts


def took(work: Callable[[str], object], text: str) -> float:
    started = time.thread_time()
    work(text)
    return time.thread_time() - started


def striptags(text: str) -> object:
    from ai_assets.stages.prompt_sandbox import striptags

    return striptags(text)


def chunked(text: str) -> object:
    return chunk_document("d", text, max_characters=1_000, overlap=100)


@pytest.mark.parametrize(
    ("work", "unit"),
    [
        (chunked, "\n"), (chunked, "\n" * 900 + "x"), (chunked, "a"), (chunked, "<"), (chunked, " "), (chunked, "*a "),
        (chunked, "[a](b) "), (striptags, "<a>"), (striptags, "<!-- -->"), (striptags, "<"),
    ],
    ids=lambda value: repr(value[-8:]) if isinstance(value, str) else value.__name__,
)  # fmt: skip
def test_time_grows_no_faster_than_the_text(work: Callable[[str], object], unit: str) -> None:
    small, large = ("x" + unit * (size // len(unit)) + "x" for size in (100_000, 800_000))
    assert took(work, large) < 24 * max(took(work, small), 0.02)


def test_a_pile_of_combining_characters_is_refused_and_what_people_write_is_not() -> None:
    with pytest.raises(Unreadable, match="1,000,000 combining characters in a row at character 1; the limit is 200"):
        refuse_piled_marks("x" + "\u0301\u0323" * 500_000)
    refuse_piled_marks("x" + "\u0301\u0323" * 100 + "x" * 1_000_000)
    refuse_piled_marks("Tiếng Việt".encode().decode() * 100_000)
