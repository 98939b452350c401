"""What a chat template writes around an answer: the header before it, and what stands behind it.

All of it is found from a few conversations of our own, rendered once a template: what the generation prompt holds is
the header, what the template writes behind that is the model's to write. An empty think block before an answer is part
of the header whether the prompt holds it or not.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from apo_soup.data.conversations.reasoning import EMPTY_BLOCK
from apo_soup.data.rendering.message_form import ANSWER, PROBE, TOOL, USER, call_turn
from apo_soup.data.rendering.template import Span
from apo_soup.data.sources.rows import Fields, RowError
from apo_soup.models.think_tags import THINKING

Render = Callable[[list[Fields], dict[str, Any]], str]
BOTH_MODES = ({"enable_thinking": True}, {"enable_thinking": False})
# Characters of a prompt that a message shows.
SHOWN_OF_PROMPT = 30
RenderTurns = Callable[[list[Fields], dict[str, Any]], tuple[str, list[Span]]]


@dataclass(frozen=True)
class TurnFrame:
    """What stands around an answer behind one role, a user's or a tool's.

    `headers` and `tails` are what may stand before and behind it, longest first. `bare` says that it may begin without
    a header, `opens_block` that the prompt opens a think block in every mode.
    """

    headers: list[str] = field(default_factory=list)
    tails: list[str] = field(default_factory=list)
    bare: bool = True
    opens_block: bool = False

    def enclosed(self, text: str, start: int) -> int:
        """How many characters of `text` behind `start` belong to a header, which may have begun before it."""
        cuts = self._cuts.get(text[start : start + 1])
        if not cuts:
            return 0
        fitting = (len(b) for a, b in cuts if text.startswith(b, start) and text.endswith(a, 0, start))
        return max(fitting, default=0)

    @cached_property
    def _cuts(self) -> dict[str, list[tuple[str, str]]]:
        """Every header cut in two, by the first character of its second part: a span seldom begins with one."""
        cuts: dict[str, list[tuple[str, str]]] = {}
        for header in self.headers:
            for cut in range(len(header)):
                cuts.setdefault(header[cut], []).append((header[:cut], header[cut:]))
        return cuts


@dataclass(frozen=True)
class TurnFrames:
    """The frames behind a user's turn and behind a tool's, and why a template cannot be trained on.

    `encloses_results`: a tool's result stands inside the turn that calls it. `prompt_differs`: the generation prompt
    and the text that should begin with it, from where they part.
    """

    behind_user: TurnFrame
    behind_tool: TurnFrame
    encloses_results: bool = False
    prompt_differs: tuple[str, str] | None = None


def turn_frames(render: Render, prompt: Render, turns: RenderTurns) -> TurnFrames:
    """The frames of a template.

    Args:
        render: the text of a conversation.
        prompt: the same with the generation prompt.
        turns: the text and what is known of the assistant's turns in it, header included or not.

    Raises:
        RowError: the template refuses a question with an answer.
    """
    behind_user, _, differs = _frame([USER], render, prompt, turns)
    try:
        behind_tool, encloses, _ = _frame([USER, call_turn(), TOOL], render, prompt, turns)
    except RowError:  # a template without tools
        behind_tool, encloses = behind_user, False
    return TurnFrames(behind_user, behind_user if behind_tool == behind_user else behind_tool, encloses, differs)


def _frame(
    context: list[Fields], render: Render, prompt: Render, turns: RenderTurns
) -> tuple[TurnFrame, bool, tuple[str, str] | None]:
    prompts: set[str] = set()
    before: set[str] = set()
    behind: set[str] = set()
    bare, encloses, opens = False, False, []
    differing: list[tuple[str, str] | None] = []
    for mode in BOTH_MODES:
        asked, asking = render(context, mode), prompt(context, mode)
        prompts.add(asking[len(asked) :] if asking.startswith(asked) else "")
        opens.append(asking.rstrip().endswith(THINKING))
        for turn_behind in ([], [USER]):
            text, spans = turns([*context, ANSWER, *turn_behind], mode)
            place = text.find(PROBE)
            if place < 0:
                continue
            if not turn_behind:
                differing.append(None if opens[-1] else parting(asking, text))
            if text.startswith(asked):
                before.add(text[len(asked) : place])
            for start, end in spans:
                encloses |= TOOL["content"] in text[start:end]
                if start <= place < end:
                    if text.startswith(asking) and start < len(asking):
                        prompts.add(text[start : len(asking)])
                    behind.add(text[place + len(PROBE) : end])
                    bare |= not text[start:place].strip()
                    if not text.startswith(asked):
                        before.add(text[start:place])
    own = {header for header in before if _is_header(header, prompts)}
    frame = TurnFrame(_longest_first(prompts | own), _longest_first(behind), bare, all(opens))
    return frame, encloses, differing[0] if differing and all(differing) else None


def parting(asking: str, text: str) -> tuple[str, str] | None:
    """A prompt and a text that does not begin with it, from where they part."""
    if text.startswith(asking):
        return None
    same = next((n for n, (a, b) in enumerate(zip(asking, text, strict=False)) if a != b), min(len(asking), len(text)))
    return asking[same : same + SHOWN_OF_PROMPT], text.replace(PROBE, "...")[same : same + SHOWN_OF_PROMPT]


def _is_header(text: str, prompts: set[str]) -> bool:
    """Whether what stands before an answer is header to its end, and not partly the model's to write."""
    prompt = max((p for p in prompts if text.startswith(p)), key=len, default="")
    rest = text[len(prompt) :]
    if not rest.strip():
        return False  # white space before an answer is its own
    return not prompt or EMPTY_BLOCK.fullmatch(rest) is not None


def _longest_first(texts: set[str]) -> list[str]:
    return sorted(texts - {""}, key=lambda text: (-len(text), text))
