"""The judge's part: answers that no reference verifies become questions to a judge, and its words become scores."""

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, replace

from apo.pairs.ask import side_answers
from apo.pairs.journal import Answer
from apo.pairs.judge import JudgedCompletion
from apo.pairs.prompts import Prompt
from apo.pairs.side import AskedSide
from apo_soup.config.in_words import as_written
from apo_soup.config.judges import PLACES, EndpointJudge
from apo_soup.runs.stage import Stage
from apo_soup.verify.modes import answer_part
from apo_soup.verify.refusals import conversation_text, filled_places

# One side's judged completions by prompt id.
JudgedSide = dict[str, list[JudgedCompletion]]
# The last line of a verdict, which may be in bold, in brackets or a box, and out of the most.
SCORE_LINE = re.compile(
    r"[*_`#\s]*(?:(?:final|overall) )?score[*_`\s]*[:=][*_`\s\[<($]*(?:\\boxed\{)?(?P<score>-?\d+(?:\.\d+)?)"
    r"(?:\s*(?:/|out of)\s*(?P<most>\d+(?:\.\d+)?))?[*_`\s\]>)}$]*\.?[*_`\s]*",
    re.IGNORECASE,
)
NO_SCORE = "judge: no score"


@dataclass(frozen=True)
class JudgeCount:
    """How many answers a judge was asked about, how many of them have no score, and how many of its votes could not be
    read.
    """

    asked: int = 0
    without_score: int = 0
    unread_votes: int = 0


def parsed_score(verdict: str, least: float, most: float) -> float | None:
    r"""The score that a judge's last line says, or None where it says none or one beyond the scale.

    >>> parsed_score("Right, but long.\nScore: 7", 1, 10)
    7.0
    >>> parsed_score("**Score**: 7/10", 1, 10), parsed_score("Score: 7/10", 1, 7)
    (7.0, None)
    >>> parsed_score("Score: 7 or 8", 1, 10), parsed_score("Score: 11", 1, 10)
    (None, None)
    """
    lines = answer_part(verdict).splitlines()
    found = SCORE_LINE.fullmatch(lines[-1]) if lines else None
    if found is None or float(found["most"] or most) != most:
        return None
    score = float(found["score"])
    return score if least <= score <= most else None


def judge_text(template: str, question: str, answer: str, least: float, most: float) -> str:
    """A judge's template with its places filled in.

    >>> judge_text("{question} {answer} {x} {most}", "{answer}", "a", 1, 10)
    '{answer} a {x} 10'
    """
    values = dict(zip(PLACES, (question, answer, f"{least:g}", f"{most:g}"), strict=True))
    return filled_places(template, values)


def judge_prompt(judge: AskedSide, prompt: Prompt, answer: str) -> Prompt:
    """What the judge is asked about one answer: for a reward model the conversation that it ends."""
    keys = judge.keys
    if isinstance(keys, EndpointJudge):
        text = judge_text(keys.template, conversation_text(prompt.messages), answer, keys.scale[0], keys.scale[1])
        messages, kwargs = [{"role": "user", "content": text}], {}
    else:
        messages, kwargs = [*prompt.messages, {"role": "assistant", "content": answer}], prompt.kwargs
    name = hashlib.sha256(repr((messages, kwargs)).encode("utf-8", "replace")).hexdigest()[:16]
    return Prompt(name, messages, kwargs, None, prompt.source_row)


def with_scores(
    judge: AskedSide, prompts: list[Prompt], judged: dict[str, JudgedSide], stage: Stage
) -> tuple[dict[str, JudgedSide], JudgeCount, str | None]:
    """The same completions with the judge's scores on those that pass the filters and have no verdict of a verifier;
    one that the judge gives no score to fails. Beside them counts, and what it said in place of the first score that is
    missing; None where none is.

    Raises:
        UserError: the judge cannot be asked.
    """
    questions: dict[str, Prompt] = {}
    asked: dict[tuple[str, str, int], str] = {}
    for side, by_prompt in judged.items():
        for prompt in prompts:
            for number, one in enumerate(by_prompt[prompt.id]):
                if one.failed_filter is None and one.score is None:
                    question = judge_prompt(judge, prompt, one.completion.written)
                    questions[question.id] = question
                    asked[side, prompt.id, number] = question.id
    answers = side_answers(judge, list(questions.values()), stage) if questions else {}
    scores, unread = {}, 0
    for name, answer in answers.items():
        votes = [_vote(judge, completion.text) for completion in answer.completions if completion.finished]
        good = [vote for vote in votes if vote is not None]
        unread += len(answer.completions) - len(good)
        scores[name] = sum(good) / len(good) if len(good) * 2 > judge.candidates else None
    found = {side: {key: list(ones) for key, ones in by_prompt.items()} for side, by_prompt in judged.items()}
    for (side, prompt_id, number), name in asked.items():
        one, score = found[side][prompt_id][number], scores[name]
        failed = NO_SCORE if score is None else None
        found[side][prompt_id][number] = replace(one, judge_score=score, failed_filter=failed)
    missing = Counter(scores.values())[None]
    said = next((_said(answer) for name, answer in answers.items() if scores[name] is None), None)
    return found, JudgeCount(len(answers), missing, unread), said


def _said(answer: Answer) -> str:
    """What a judge said that is no score, in words."""
    if answer.problem:
        return f"the judge: {answer.problem}"
    lines = [line for one in answer.completions for line in answer_part(one.text).splitlines()[-1:]]
    return f"the judge ends with {as_written(lines[0])}" if lines else "the judge says nothing"


def _vote(judge: AskedSide, text: str) -> float | None:
    keys = judge.keys
    return parsed_score(text, keys.scale[0], keys.scale[1]) if isinstance(keys, EndpointJudge) else float(text)
