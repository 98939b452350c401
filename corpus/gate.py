"""The last check before a GPU is paid for: what is trained is what should be trained.

Runs on prepared documents, source by source. A failure stops the launch and shows the row it failed on.
"""

import re
from dataclasses import dataclass

from corpus.conversation import Conversation
from corpus.mask import Rendered
from pipeline.errors import UserError

ROWS_PER_SOURCE = 200
EMPTY_BLOCK = re.compile(r"\s*(<\|im_start\|>\s*assistant\s*)?<think>\s*</think>")


@dataclass(frozen=True)
class Sample:
    """One row of a source as it will be trained."""

    source: str
    place: str
    item: Conversation
    rendered: Rendered
    trained: list[str]


def check_samples(samples: list[Sample], end_of_turn: str, whole: bool = False) -> None:
    """Refuse a source whose rows train on nothing, on others' words, or never on the end of turn.

    Args:
        samples: rows of any number of sources; `trained` holds the text of each trained span, decoded from tokens.
        end_of_turn: the token every answer must end with.
        whole: the recipe trains on all tokens (`assistant_only_loss: false`), so only emptiness is checked.
    """
    for sample in samples:
        text = "".join(sample.trained)
        if not text:
            _fail(sample, "no token of this row is trained")
        if whole:
            continue
        for span in sample.trained:
            if EMPTY_BLOCK.match(span):
                _fail(sample, "the empty think block that the template prefills is trained")
            if not span.endswith(end_of_turn):
                _fail(sample, f"an answer's end-of-turn token {end_of_turn} is not trained")
        for message in sample.item.messages:
            content = message.get("content") or ""
            if message["role"] in ("user", "tool") and len(content) > 40 and content in text:
                spoken = "".join(m.get("content") or "" for m in sample.item.messages if m["role"] == "assistant")
                if content not in spoken:
                    _fail(sample, f"the text of a {message['role']} turn is trained")
        opens = "<think>" in text
        if sample.item.thinks and "enable_thinking" in sample.item.kwargs and not opens:
            _fail(sample, "a think row trains on no reasoning (no <think> in the answers)")
        if not sample.item.thinks and opens:
            _fail(sample, "a no-think row trains on reasoning (<think> in an answer)")


def _fail(sample: Sample, what: str) -> None:
    shown = sample.rendered.text if len(sample.rendered.text) <= 1200 else sample.rendered.text[:1200] + " ..."
    raise UserError(
        f"gate: source {sample.source}, row {sample.place}: {what}. Correct the rows or the chat template.\n"
        f"--- the row as rendered ---\n{shown}\n--- the text that would be trained ---\n{' | '.join(sample.trained)}"
    )
