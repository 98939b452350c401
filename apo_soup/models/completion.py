"""What a model is asked for and what it says, whichever engine runs it."""

import json
from dataclasses import dataclass, replace
from typing import Any

from apo_soup.models.think_tags import THINKING, opens_thinking


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen; temperature 0 is greedy, top_k 0 and min_p 0 choose among all."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Completion:
    """Generated text without its end-of-turn token, its token count (None where a server does not tell it), and
    whether it ended by itself; `problem` is what an engine did to it that leaves it no whole answer. `calls` are tool
    calls that a server took out of the text, each with `name` and `arguments`.
    """

    text: str
    tokens: int | None
    finished: bool
    problem: str | None = None
    calls: tuple[dict[str, Any], ...] = ()

    @property
    def written(self) -> str:
        """The text with its calls behind it, in the tags that SmolLM3 and others write them in."""
        written = (json.dumps(call, ensure_ascii=False) for call in self.calls)
        return "\n".join([*([self.text] if self.text else []), *(f"<tool_call>\n{c}\n</tool_call>" for c in written)])

    @property
    def length(self) -> float:
        """Its tokens; where nobody counted them, its characters at four a token."""
        return len(self.written) / 4 if self.tokens is None else self.tokens


def with_think_opening(completion: Completion, prompt: str) -> Completion:
    """A completion whose template opened the think block in the prompt, with that opening in front."""
    return replace(completion, text=THINKING + completion.text) if opens_thinking(prompt) else completion
