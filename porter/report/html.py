"""report.html: one file, no script, nothing fetched, every value escaped."""

from __future__ import annotations

import jinja2

from porter.report.schema import Report
from porter.report.text import headline, machine, number, speed_lines, worst

TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ report.source }}: {{ report.verdict }}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #1b1f24; background: #fff }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #ddd }
td.n { text-align: right; font-variant-numeric: tabular-nums }
.pass { color: #1a7f37 } .warn, .incomplete { color: #9a6700 } .fail { color: #cf222e }
code { font-size: .9em } footer { margin-top: 2rem; color: #666 }
@media (prefers-color-scheme: dark) { body { color: #e6edf3; background: #0d1117 }
  td, th { border-color: #30363d } .pass { color: #3fb950 } .fail { color: #f85149 }
  .warn, .incomplete { color: #d29922 } }
</style></head><body>
<h1>{{ report.source }}</h1>
<p class="{{ report.verdict }}"><strong>{{ headline }}</strong></p>
<p>Reference: {{ machine }}</p>
<h2>Outputs</h2>
<table><tr><th>name<th>shape<th>dtype<th>max abs<th>rms rel<th>cosine<th>margin<th>verdict</tr>
{% for o in report.outputs %}<tr><td><code>{{ o.name }}</code><td>{{ o.shape | join("×") }}
<td>{{ o.dtype }}<td class="n">{{ o.max_abs | number }}<td class="n">{{ o.rms_rel | number }}
<td class="n">{{ o.cosine | number }}<td class="n">{{ o.margin | number }}
<td class="{{ o.verdict }}">{{ o.verdict }} {{ o.hint }}</tr>
{% endfor %}</table>
{% if report.culprits %}<h2>Culprits</h2><ul>
{% for path in report.culprits %}<li><code>{{ path }}</code> {{ hints.get(path, "") }}</li>
{% endfor %}</ul>{% endif %}
{% if report.uncompared %}<h2>Not compared</h2><ul>
{% for what in report.uncompared %}<li>{{ what }}</li>{% endfor %}</ul>{% endif %}
<h2>Checks</h2><ul>
{% for name, found in report.checks.items() %}<li>{{ name }}: {{ found }}</li>{% endfor %}</ul>
{% if report.speed %}<h2>Speed</h2>
<table><tr><th>side<th>mode<th>median ms<th>p90 ms<th>first ms<th>n</tr>
{% for r in report.speed.runs %}<tr><td>{{ r.side }}<td>{{ r.mode }}
<td class="n">{{ r.median_ms | number }}<td class="n">{{ r.p90_ms | number }}
<td class="n">{{ r.first_ms | number }}<td class="n">{{ r.n }}</tr>
{% endfor %}</table>{% for line in speed %}<p>{{ line }}</p>{% endfor %}{% endif %}
{% if modules %}<h2>Modules, each fed the reference's own input</h2>
<table><tr><th>path<th>class<th>max abs<th>margin<th>verdict</tr>
{% for m in modules %}<tr><td><code>{{ m.path }}</code><td>{{ m.cls }}
<td class="n">{{ m.max_abs | number }}<td class="n">{{ m.margin | number }}
<td class="{{ m.verdict }}">{{ m.verdict }} {{ m.hint }}</tr>
{% endfor %}</table>{% endif %}
{% for note in report.notes %}<p>{{ note }}</p>{% endfor %}
<footer>The margin is the error against torch in float64, over what a correct port may have: up to
1 is equal, up to 30 a matter of precision, above that wrong.</footer>
</body></html>
"""


def render(report: Report) -> str:
    """The whole page."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["number"] = lambda v: number(v if isinstance(v, (int, float)) else None)
    speed = report.speed
    if speed:
        runs = [{"first_ms": None, **run} for run in speed.get("runs", [])]
        report.speed = {**speed, "runs": runs}
    try:
        return environment.from_string(TEMPLATE).render(
            report=report, headline=headline(report), machine=machine(report.reference),
            hints={m.path: m.hint for m in report.modules}, speed=speed_lines(report),
            modules=worst(report, len(report.modules)),
        )  # fmt: skip
    finally:
        report.speed = speed
