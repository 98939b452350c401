"""A pair or a reason for every prompt, of both sides' answers."""

from collections import Counter
from dataclasses import dataclass

from apo.pairs.choice import PairChoice, chosen_and_rejected, unbalanced_pairs
from apo.pairs.journal import Answer
from apo.pairs.judge import JudgedCompletion
from apo.pairs.prompts import Prompt, PromptSet
from apo.pairs.side import SIDE_NAMES


@dataclass(frozen=True)
class SelectedPair:
    """The chosen and the rejected answer of a prompt."""

    prompt: Prompt
    chosen: JudgedCompletion
    rejected: JudgedCompletion

    @property
    def lengths(self) -> tuple[float, float]:
        """Tokens of the chosen and of the rejected answer, or what stands for them."""
        return self.chosen.completion.length, self.rejected.completion.length


@dataclass(frozen=True)
class DroppedPrompt:
    """A prompt without a pair: why, and what was judged of each side; after the length balance, of its pair."""

    prompt: Prompt
    reason: str
    strong: list[JudgedCompletion]
    weak: list[JudgedCompletion]


@dataclass(frozen=True)
class Selection:
    """Pairs and dropped prompts in the prompts' order, those of the length balance last, and how many prompts were
    dropped for each reason.
    """

    pairs: list[SelectedPair]
    dropped: list[DroppedPrompt]
    reasons: Counter[str]


def selected_pairs(
    prompts: PromptSet,
    answers: dict[str, dict[str, Answer]],
    judged: dict[str, dict[str, list[JudgedCompletion]]],
    choice: PairChoice,
    length_balance: float | None,
) -> Selection:
    """The best pair of each prompt.

    Args:
        prompts: what both sides were asked, and the duplicates that they were not.
        answers: each side's answers by prompt id.
        judged: the completions in them, judged.
        length_balance: the most pairs, as a share, in which one side is the longer one; None is any.
    """
    pairs, dropped = [], []
    reasons = Counter({"duplicate prompt": len(prompts.duplicates)} if prompts.duplicates else {})
    for prompt in prompts.usable:
        strong, weak = (judged[name][prompt.id] for name in SIDE_NAMES)
        outcome = chosen_and_rejected(strong, weak, choice)
        if isinstance(outcome, str):
            refusal = next((a[prompt.id].problem for a in answers.values() if a[prompt.id].problem), None)
            reasons["refused by an engine" if refusal else outcome] += 1
            dropped.append(DroppedPrompt(prompt, refusal or outcome, strong, weak))
        else:
            pairs.append(SelectedPair(prompt, *outcome))
    if length_balance:
        numbers = unbalanced_pairs([pair.lengths for pair in pairs], length_balance)
        reasons["length balance"] += len(numbers)
        for n in sorted(numbers):
            dropped.append(DroppedPrompt(pairs[n].prompt, "length balance", [pairs[n].chosen], [pairs[n].rejected]))
        pairs = [pair for n, pair in enumerate(pairs) if n not in numbers]
    return Selection(pairs, dropped, reasons)
