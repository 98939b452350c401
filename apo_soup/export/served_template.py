"""A chat template as servers need it: what it writes is what the model was trained on.

It has no `{% generation %}` marks, which only training reads and which not every reader of a GGUF file knows. And dates
stand in it as they were pinned in training: llama.cpp's server gives every template the day's date by the name
`date_string`, so that a template which prints that would write what no row held.
"""

import json
import re
from pathlib import Path

from apo_soup.runs.lineage import lineage_of

_MARKS = re.compile(r"\{%(-?)\s*(generation|endgeneration)\s*(-?)%\}")
# By this name llama.cpp's server gives the day's date.
_DATE = "date_string"
# Arguments that a recipe pins for all of its rows.
_PINNED = (_DATE, "knowledge_cutoff")


def served_template(text: str, pinned: dict[str, str]) -> str:
    """A chat template without generation marks, with dates as they were in training, or none.

    Args:
        pinned: the arguments of `trained_dates`.

    >>> served_template("a {%- generation -%} b {%- endgeneration %}", {})
    'a {%- if true -%} b {%- endif %}'
    >>> served_template("{{ date_string }}", {"date_string": "01 July 2025"})
    '{%- set date_string = "01 July 2025" -%}{{ date_string }}'
    """
    plain = _MARKS.sub(lambda m: f"{{%{m[1]} {'if true' if m[2] == 'generation' else 'endif'} {m[3]}%}}", text)
    given = {_DATE: "", **pinned} if re.search(rf"\b{_DATE}\b", text) else pinned
    return "".join(f"{{%- set {name} = {json.dumps(value)} -%}}" for name, value in given.items()) + plain


def trained_dates(model: Path) -> dict[str, str]:
    """The dates that the rows of a model were rendered with, by the manifests of the stages that made it.

    Raises:
        UserError: a manifest is no JSON, or one of ours of another form.
    """
    for manifest in lineage_of([str(model)], model.parent).values():
        given = (manifest or {}).get("config", {}).get("chat_template_kwargs") or {}
        found = {name: str(given[name]) for name in _PINNED if name in given}
        if found:
            return found
    return {}
