"""Tasks of kind `turns`: the mode that a system prompt sets is to be kept turn by turn, and a user may change it.

The model's own answers stand in the history, reasoning too where the mode of the request is think. What is asked at a
turn is asked of all conversations together.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from apo_soup.config.eval import TurnsTask
from apo_soup.config.eval_keys import OTHER_MODE, Mode
from apo_soup.data.conversations.dialects import system_text
from apo_soup.data.conversations.formats import one_system
from apo_soup.data.conversations.reasoning import EMPTY_BLOCK, opens_block_at
from apo_soup.data.conversations.row_arguments import template_kwargs
from apo_soup.data.rendering.argument_form import INSTRUCTIONS
from apo_soup.data.sources.rows import RowError, described
from apo_soup.evals.answers import drawn_answers
from apo_soup.evals.metrics import AnswerSample, ItemRow, Metric, TaskResult
from apo_soup.evals.repeats import mean_over_repeats
from apo_soup.models.completion import Completion
from apo_soup.models.think_tags import THINKING
from apo_soup.progress import warn
from apo_soup.verify.modes import answer_part, obeys

if TYPE_CHECKING:
    from apo_soup.evals.checkpoint import Checkpoint  # which imports torch, and `check` reads items too

FLAG_OF_MODE: dict[Mode, str] = {"think": "/think", "no_think": "/no_think"}
NOTHING = "(nothing)"


@dataclass(frozen=True)
class Script:
    """What the user of a conversation says: a system text, questions, and further arguments of the template."""

    system: str
    questions: tuple[str, ...]
    arguments: dict[str, Any]


@dataclass
class HeldTalk:
    """A conversation under way: what the model said, and of which turns it kept the mode.

    `first` is the mode that the system prompt sets, `switch` the turn from which the other one is asked for, or 0.
    """

    script: Script
    first: Mode
    switch: int = 0
    by_words: bool = False
    said: list[str] = field(default_factory=list)
    kept: list[bool] = field(default_factory=list)

    def switched(self, turn: int) -> bool:
        """Whether the other mode is asked for at a turn, counted from 1."""
        return bool(self.switch) and turn >= self.switch

    def mode(self, turn: int) -> Mode:
        """The mode that the model is held to at a turn."""
        return OTHER_MODE[self.first] if self.switched(turn) else self.first

    def messages(self, turn: int) -> tuple[list[dict[str, str]], Mode]:
        """The conversation up to a turn's question, and the mode that the request renders."""
        shown = self.first if self.by_words else self.mode(turn)
        messages = [{"role": "system", "content": f"{self.script.system}\n{FLAG_OF_MODE[shown]}".strip()}]
        for number, question in enumerate(self.script.questions[:turn], 1):
            changes = self.by_words and number == self.switch
            content = f"{question} {FLAG_OF_MODE[OTHER_MODE[self.first]]}" if changes else question
            messages.append({"role": "user", "content": content})
            if number < turn:
                said = self.said[number - 1]
                # In no-think mode an earlier reasoning would contradict the mode.
                spoken = said.strip() if shown == "think" else answer_part(said)
                messages.append({"role": "assistant", "content": spoken or NOTHING})
        return messages, shown

    def hear(self, answer: Completion, prompt: str, turn: int) -> None:
        """Take an answer to a turn's prompt."""
        said = f"{THINKING}\n{answer.text}" if opens_block_at(prompt, len(prompt)) else answer.text
        self.said.append(said)
        block = EMPTY_BLOCK.match(said)
        # A template prefills the empty block of a no-think mode; where the user's words alone ask, the model writes it.
        judged = said[block.end() :] if block and self.by_words and self.mode(turn) == "no_think" else said
        self.kept.append(answer.finished and obeys(judged, self.mode(turn) == "think"))


def turns_task(checkpoint: "Checkpoint", task: TurnsTask, rows: list[ItemRow]) -> TaskResult:
    """The share of conversations that keep their mode at each turn, and the mean over the turns.

    Raises:
        RowError: a field is missing, there are too few questions, or the template refuses a row.
        UserError: a prompt and its answer do not fit the model's window.
    """
    scripts = conversation_scripts(rows, task)[: task.limit]
    switch = task.switch if task.switch <= task.turns else 0
    runs: dict[str, list[HeldTalk]] = {}
    for mode in task.modes:
        runs[mode] = [HeldTalk(script, mode) for script in scripts for _ in range(task.repeats)]
        if not switch:
            continue
        by_words = task.switch_by == "words"
        changing = [HeldTalk(s, mode, switch, by_words) for s in scripts for _ in range(task.repeats)]
        reason = no_switch_by_words(checkpoint, changing[0]) if by_words and mode == "no_think" else None
        if reason:
            warn(f"{task.name}: no switch to /think by words: {reason}")
            continue
        runs[f"{mode}_to_{OTHER_MODE[mode]}"] = changing
    for turn in range(1, task.turns + 1):
        speak(checkpoint, task, runs, turn)
    metrics: dict[str, Metric] = {}
    samples: list[AnswerSample] = []
    for label, talks in runs.items():
        conversations = [talks[n : n + task.repeats] for n in range(0, len(talks), task.repeats)]
        held = range(talks[0].switch or 1, task.turns + 1)
        shares = [[sum(t.kept[n - 1] for n in held) / len(held) for t in own] for own in conversations]
        metrics[f"{task.name}/{label}/kept"] = mean_over_repeats(shares, headline=True)
        for turn in held:
            outcomes = [[t.kept[turn - 1] for t in own] for own in conversations]
            metrics[f"{task.name}/{label}/turn_{turn}"] = mean_over_repeats(outcomes)
        samples += [conversation_sample(own[0]) for own in conversations[: checkpoint.samples]]
    return TaskResult(metrics, samples)


def speak(checkpoint: "Checkpoint", task: TurnsTask, runs: dict[str, list[HeldTalk]], turn: int) -> None:
    """Let the model answer a turn of all conversations; one that changes later has the answers of the one that does not
    until then.

    Raises:
        UserError: a prompt and its answer do not fit the model's window.
    """
    waiting: list[tuple[HeldTalk, str]] = []
    for talks in runs.values():
        for talk in talks:
            if talk.switch and not talk.switched(turn):
                continue
            messages, mode = talk.messages(turn)
            arguments = {**talk.script.arguments, "enable_thinking": mode == "think"}
            waiting.append((talk, checkpoint.renderer.prompt(messages, arguments)))
    answers = drawn_answers(checkpoint, task, [prompt for _, prompt in waiting], turn)
    for (talk, prompt), answer in zip(waiting, answers, strict=True):
        talk.hear(answer, prompt, turn)
    for talks in runs.values():
        for number, talk in enumerate(talks):
            if talk.switch and not talk.switched(turn):
                alike = runs[talk.first][number]
                talk.said.append(alike.said[-1])
                talk.kept.append(alike.kept[-1])


def no_switch_by_words(checkpoint: "Checkpoint", talk: HeldTalk) -> str | None:
    """Why a user's words cannot switch a no-think conversation to think: the template writes an empty think block
    before every answer of it, or that is not known. None where they can.
    """
    if checkpoint.template is None:
        return "whether the server's template writes an empty think block is not known; give endpoint.tokenizer"
    messages, _ = talk.messages(1)
    prompt = checkpoint.template.prompt(messages, {**talk.script.arguments, "enable_thinking": False})
    if THINKING in prompt and EMPTY_BLOCK.fullmatch(prompt[prompt.rfind(THINKING) :]):
        return "the template writes an empty think block before every answer of a no-think conversation"
    return None


def conversation_scripts(rows: list[ItemRow], task: TurnsTask) -> list[Script]:
    """A conversation a row of `task.turns` questions; rows of one question each are joined in their order.

    Raises:
        RowError: a row has fewer questions than the conversation has turns, or there are too few rows.
    """
    scripts = [row_script(row, task.question) for row in rows]
    if scripts and all(len(script.questions) == 1 for script in scripts):
        parts = [scripts[n : n + task.turns] for n in range(0, len(scripts) - task.turns + 1, task.turns)]
        scripts = [Script(own[0].system, tuple(s.questions[0] for s in own), own[0].arguments) for own in parts]
    short = [len(script.questions) for script in scripts if len(script.questions) < task.turns]
    if short or not scripts:
        got = f"{short[0]} in a row" if short else f"{len(rows)} rows of one"
        told = f"field {task.question}: expected {task.turns} questions for as many turns, got {got}"
        raise RowError(f"{told}; add questions, or give fewer turns")
    return scripts


def row_script(row: ItemRow, question: str) -> Script:
    """The questions of a row: a text, a list of texts, or the user's turns of messages, whose answers are left out.

    Raises:
        RowError: there is no such field, or it is none of these.
    """
    asked = row.under("question", question)
    told = [asked] if isinstance(asked, str) else asked
    system, questions = "", []
    for message in told if isinstance(told, list) else []:
        content = message.get("content") if isinstance(message, dict) else message
        role = message.get("role") if isinstance(message, dict) else "user"
        if not isinstance(content, str):
            told = f"field {question}: expected text in every turn, got {described(content)}"
            raise row.refusal(f"{told}; correct the row")
        if role == "system":
            system = content
        elif role == "user":
            questions.append(content)
    if not questions:
        told = f"field {question}: expected questions, as text or messages, got {described(asked)}"
        raise row.refusal(f"{told}; correct the row")
    # The mode is a word of the system turn, beside which templates leave instructions out.
    arguments = template_kwargs(row, {})
    beside = arguments.pop(INSTRUCTIONS, None)
    try:
        beside = beside or system_text(one_system(row))
    except RowError as error:
        raise row.refusal(str(error)) from None
    system = system or str(beside or "")
    return Script(system, tuple(questions), arguments)


def conversation_sample(talk: HeldTalk) -> AnswerSample:
    """A conversation as people read it."""
    told = f" (from turn {talk.switch} on {FLAG_OF_MODE[OTHER_MODE[talk.first]]})" if talk.switch else ""
    lines = [
        f"[turn {number}, {FLAG_OF_MODE[talk.mode(number)]}, {'kept' if kept else 'not kept'}]\n{said}"
        for number, (said, kept) in enumerate(zip(talk.said, talk.kept, strict=True), 1)
    ]
    return AnswerSample(talk.first, talk.script.questions[0] + told, "\n".join(lines), all(talk.kept))
