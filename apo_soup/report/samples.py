"""The page's samples: the same questions answered by every stage in both modes."""

from typing import Any

from apo_soup.report.html import esc
from apo_soup.runs.results import EvaluatedCheckpoint, pipeline_order

_MODES = ("think", "no_think")
_QUESTIONS = 5
# Characters of an answer that the page holds.
_CHARACTERS = 2000


def samples_section(stages: list[EvaluatedCheckpoint]) -> str:
    """The first kept questions, each answered by every stage in both modes, side by side."""
    asked: dict[tuple[str, str], dict[tuple[str, str], dict[str, Any]]] = {}
    for stage in stages:
        for sample in stage.results["samples"]:
            asked.setdefault((sample["task"], sample["question"]), {})[stage.name, sample["mode"]] = sample
    # Questions that were asked in both modes come first: they show what the modes are for.
    order = sorted(asked, key=lambda q: len({mode for _, mode in asked[q]}) < len(_MODES))
    parts = []
    for key in order[:_QUESTIONS]:
        question = key[1]
        parts.append(f"<h3>{esc(question if len(question) < 400 else '... ' + question[-400:])}</h3>")
        for mode in _MODES:
            cards = []
            for (name, answered_in), answer in sorted(asked[key].items(), key=lambda item: pipeline_order(item[0][0])):
                if answered_in == mode:
                    verdict = {True: '<span class="good">right</span>', False: "wrong"}.get(answer["right"], "")
                    text = answer["answer"] or "(nothing)"
                    cards.append(f"<div><b>{esc(name)}</b> {verdict}<pre>{esc(_beginning_and_end(text))}</pre></div>")
            if cards:
                parts.append(f'<p><code>/{mode}</code></p><div class="answers">{"".join(cards)}</div>')
    return "".join(parts)


def _beginning_and_end(text: str) -> str:
    """A long answer's beginning and end, where its reasoning starts and its answer stands."""
    if len(text) <= _CHARACTERS:
        return text
    return f"{text[: _CHARACTERS // 2]}\n[... {len(text) - _CHARACTERS:,} characters ...]\n{text[-_CHARACTERS // 2 :]}"
