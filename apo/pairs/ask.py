"""Asking one side: what its journal does not hold yet, with progress.

Answers are kept under a key of all that decides them: model, engine, sampling and prompts. A killed run goes on where
it was, and another filter, verifier or choice asks nothing again.
"""

from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from apo.pairs.engines.engine import make_engine
from apo.pairs.journal import Answer, Journal
from apo.pairs.prompts import Prompt
from apo.pairs.side import AskedSide
from apo_soup.config.sides import LocalSide, TransformersSide
from apo_soup.errors import UserError
from apo_soup.hashing import hash_value
from apo_soup.progress import Progress, clock, rate_text, say
from apo_soup.runs.chat_template import template_text
from apo_soup.runs.code_hash import code_hash
from apo_soup.runs.stage import Stage

# The module that asks a model in this process.
LOCAL_ENGINE = "apo.pairs.engines.transformers"


@dataclass
class TokenCount:
    """The tokens that an engine has written; not every endpoint says how many an answer has."""

    known: int = 0
    unknown: int = 0

    def add(self, answers: list[Answer]) -> None:
        """Count those of answers."""
        counts = [completion.tokens for answer in answers for completion in answer.completions]
        self.known += sum(count or 0 for count in counts)
        self.unknown += counts.count(None)

    def told(self, seconds: float) -> str:
        """How many in so many seconds; nothing where there was no answer.

        >>> TokenCount(30_000).told(60.0), TokenCount(3, 1).told(60.0)
        ('30,000 tokens, 500 tokens/s', '3 tokens, 3.0 tokens/min, those of 1 answer unknown')
        >>> TokenCount(unknown=4).told(60.0), TokenCount().told(60.0)
        ('the tokens of 4 answers unknown', '')
        """
        answers = f"{self.unknown:,} answer{'' if self.unknown == 1 else 's'} unknown"
        if not self.known:
            return f"the tokens of {answers}" if self.unknown else ""
        beside = f", those of {answers}" if self.unknown else ""
        return f"{self.known:,} tokens, {rate_text(self.known / seconds, 'tokens')}{beside}"


def side_answers(side: AskedSide, prompts: list[Prompt], stage: Stage) -> dict[str, Answer]:
    """One side's answers to all prompts by prompt id, from the journal where they are there already.

    Raises:
        UserError: another process is asking this side now.
    """
    file = journal_file(side, prompts, stage)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{file}.lock", timeout=0), Journal(file) as journal:
            missing = len({p.id for p in prompts} - journal.done)
            if missing < len(prompts):
                done = len(prompts) - missing
                say(f"{stage.name}: {side.name}: {done:,} of {len(prompts):,} answered already ({file})")
            if missing:
                _ask_missing(side, prompts, journal, missing, stage.name)
            return {p.id: journal.answers[p.id] for p in prompts}
    except Timeout as error:
        raise UserError(
            f"{file}.lock: expected no other process that asks the {side.name} side, got one that holds the lock; "
            "wait for it to end"
        ) from error


def _ask_missing(side: AskedSide, prompts: list[Prompt], journal: Journal, missing: int, label: str) -> None:
    """Ask what the journal does not hold, `missing` prompts, with progress under a label."""
    engine = make_engine(side)
    progress = Progress(f"{label}: {side.name}", "prompts", missing)
    done, tokens = 0, TokenCount()

    def keep(answers: list[Answer]) -> None:
        nonlocal done
        journal.add(answers)
        done += len(answers)
        tokens.add(answers)
        progress.at(done, tokens.told(progress.seconds))

    try:
        engine.answer(prompts, journal.done, keep)
    finally:
        engine.close()
        progress.end()
    told = tokens.told(progress.seconds)
    say(f"{label}: {side.name}: {done:,} prompts in {clock(progress.seconds)}{f', {told}' if told else ''}")


def journal_file(side: AskedSide, prompts: list[Prompt], stage: Stage) -> Path:
    """Where a side's answers are kept: named by all that decides them.

    For transformers the prompts are part of it, because a batch, and so what is drawn in it, is made of all of them.
    The other engines draw every prompt by itself.

    Raises:
        UserError: the side's chat template is not there.
    """
    local = side.keys if isinstance(side.keys, LocalSide) else None
    content = {
        "side": side.name,
        "model": stage.inputs[side.name],
        "settings": side.deciding_settings(),
        "template": template_text(local.chat_template, f"{side.where}.chat_template") if local else None,
        "code": code_hash(LOCAL_ENGINE) if local else None,
        "prompts": [p.id for p in prompts] if isinstance(local, TransformersSide) else None,
    }
    return stage.folder.parent / "answers" / f"{side.name}-{hash_value(content)[:16]}.jsonl"
