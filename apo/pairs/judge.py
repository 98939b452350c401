"""Which answers may stand in a pair: filters and verdicts of one completion. Pure functions; nothing is asked here."""

from dataclasses import dataclass, replace

from apo.pairs.control_tokens import control_token_in, without_control_ends
from apo.pairs.journal import Answer
from apo.pairs.language import same_language
from apo.pairs.prompts import Prompt
from apo_soup.models.completion import Completion
from apo_soup.models.think_tags import without_empty_block
from apo_soup.verify.answers import Verifier
from apo_soup.verify.modes import mode_fault

# The least score of a right answer.
RIGHT_SCORE = 0.5


@dataclass(frozen=True)
class AnswerFilters:
    """What an answer must keep to: the think or no-think mode, bounds in tokens, and, with `language`, the language of
    its question, told apart among `languages` (None: all).
    """

    think: bool
    min_tokens: int = 1
    max_tokens: int | None = None
    language: bool = False
    languages: tuple[str, ...] | None = None


@dataclass(frozen=True)
class JudgedCompletion:
    """A completion, the filter that it fails in a few words (None: none), and its score from 0 to 1 where it fails none
    and there is a reference; where there is none, a judge's score on the judge's own scale.
    """

    completion: Completion
    failed_filter: str | None
    score: float | None
    judge_score: float | None = None

    @property
    def right(self) -> bool | None:
        """Whether the answer is right; None where nobody can say."""
        return None if self.score is None else self.score >= RIGHT_SCORE


def judged_candidates(
    answer: Answer, prompt: Prompt, filters: AnswerFilters, verifier: Verifier | None
) -> list[JudgedCompletion]:
    """One side's completions of a prompt, judged, in the order they were drawn in."""
    return [judged_completion(completion, prompt, filters, verifier) for completion in answer.completions]


def judged_completion(
    completion: Completion, prompt: Prompt, filters: AnswerFilters, verifier: Verifier | None
) -> JudgedCompletion:
    """One completion, without control tokens behind it and, in no-think mode, an empty block before it, under the
    filters and, where it passes them and the prompt has a reference, the verifier.
    """
    bare = without_control_ends(completion.text)
    bare = bare if filters.think else without_empty_block(bare)
    completion = completion if bare == completion.text else replace(completion, text=bare)
    failed, score = failed_filter(completion, prompt, filters), None
    if verifier and prompt.reference is not None and failed is None:
        score = float(verifier(completion.written, prompt.reference))
    return JudgedCompletion(completion, failed, score)


def failed_filter(completion: Completion, prompt: Prompt, filters: AnswerFilters) -> str | None:
    """The first filter that a completion fails, in a few words, or None."""
    if completion.problem:
        return completion.problem
    if not completion.finished:
        return "cut off"
    wrong_mode = mode_fault(completion.written, filters.think)
    if wrong_mode:
        return wrong_mode
    if control_token_in(completion.written):
        return "a control token inside"
    offered = prompt.tool_names
    if offered is not None and not {call["name"] for call in completion.calls} <= offered:
        return "a call of a tool that was not offered"
    if completion.tokens is None:
        # A bound that was asked for cannot be held.
        if filters.min_tokens > 1 or filters.max_tokens is not None:
            return "length unknown"
    elif completion.tokens < filters.min_tokens:
        return "too short"
    elif filters.max_tokens is not None and completion.tokens > filters.max_tokens:
        return "too long"
    if filters.language and not same_language(prompt.messages[-1]["content"], completion.text, filters.languages):
        return "another language"
    return None


def judged_side(
    answers: dict[str, Answer], prompts: list[Prompt], filters: AnswerFilters, verifier: Verifier | None
) -> dict[str, list[JudgedCompletion]]:
    """One side's completions of all prompts, judged, by prompt id."""
    return {p.id: judged_candidates(answers[p.id], p, filters, verifier) for p in prompts}
