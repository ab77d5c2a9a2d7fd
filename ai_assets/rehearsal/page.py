"""The provider's page for people: what it is, its counters, what was asked most often, the faults in force."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ai_assets.rehearsal.settings import Behaviour, Rule

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
td, th { border-bottom: 1px solid #ddd; padding: .25rem .75rem .25rem 0; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
code { background: #f4f4f4; padding: .1rem .3rem; }
"""
_COUNTERS = (
    ("calls", "calls"),
    ("billed", "billed"),
    ("billed_batch", "billed in batches, at half the price"),
    ("billed_twice", "billed again for an identical request"),
    ("redelivered", "of these, although the answer had been delivered"),
    ("delivered", "delivered"),
    ("undelivered", "billed, not delivered"),
    ("in_flight", "in flight"),
    ("peak_in_flight", "most in flight at once"),
    ("connections", "connections"),
)
_SHOWN_REQUESTS = 20


def page(
    behaviour: Behaviour, rules: Sequence[Rule], stats: Mapping[str, Any], repeated: Sequence[Mapping[str, Any]]
) -> str:
    counters = [(label, stats[name]) for name, label in _COUNTERS]
    counters.append(("billed, US dollars", f"{stats['billed_usd']:.6f}"))
    counters += [(f"tokens: {name}", number) for name, number in stats["tokens"].items()]
    counters += [(f"answered with {status}", number) for status, number in stats["statuses"].items()]
    again = [(bill["text"], bill["billed"], bill["delivered"]) for bill in repeated[:_SHOWN_REQUESTS]]
    drawn = [(kind, f"{share:.1%} of the requests") for kind, share in behaviour.fault.items() if share]
    drawn += [(rule.fault, _rule(rule)) for rule in rules if rule.times != 0]
    happened = list(stats["faults"].items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Rehearsal provider</title><style>{_STYLE}</style></head><body>
<h1>Rehearsal provider</h1>
<p>It speaks the OpenAI protocol, answers from the document it is sent, and costs nothing. Use it as
<code>base_url</code>; what a real provider would have billed is counted here.
Machine-readable: <a href="/rehearsal/stats">stats</a>, <a href="/rehearsal/bills">bills</a>,
<a href="/rehearsal/usage?format=csv">usage by day and key</a>,
<a href="/rehearsal/config">config</a>.</p>
<h2>Counts</h2>{_table(("what", "number"), counters)}
<h2>Requests billed more than once</h2>{_table(("request", "billed", "delivered"), again)}
<h2>Faults in force</h2>{_table(("fault", "when"), drawn)}
<h2>Faults so far</h2>{_table(("fault", "times"), happened)}
</body></html>
"""


def _rule(rule: Rule) -> str:
    often = "always" if rule.times is None else f"{rule.times} times more"
    where = f"requests with '{rule.match}'" if rule.match else "any request"
    return f"{often}, {where}{f', after {rule.after} others' if rule.after else ''}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return "<p>None.</p>"
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: object) -> str:
    number = ' class="number"' if isinstance(value, int | float) else ""
    return f"<td{number}>{escape(str(value))}</td>"
