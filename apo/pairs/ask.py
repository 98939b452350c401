"""Asking one side: what its journal does not hold yet, with progress.

Answers are kept under a key of all that decides them: model, engine, sampling and prompts. A killed run goes on where
it was, and another filter, verifier or choice asks nothing again.
"""

from pathlib import Path

from filelock import FileLock, Timeout

from apo.pairs.engines.engine import make_engine
from apo.pairs.journal import Answer, Journal
from apo.pairs.prompts import Prompt
from apo.pairs.side import AskedSide
from apo_soup.config.sides import LocalSide, TransformersSide
from apo_soup.errors import UserError
from apo_soup.hashing import hash_value
from apo_soup.progress import Progress
from apo_soup.runs.chat_template import template_text
from apo_soup.runs.code_hash import code_hash
from apo_soup.runs.stage import Stage

# The module that asks a model in this process.
LOCAL_ENGINE = "apo.pairs.engines.transformers"


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
                print(f"{stage.name}: {side.name}: {done:,} of {len(prompts):,} answered already ({file})")
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
    done = tokens = 0

    def keep(answers: list[Answer]) -> None:
        nonlocal done, tokens
        journal.add(answers)
        done += len(answers)
        tokens += sum(c.tokens or 0 for a in answers for c in a.completions)
        progress.at(done, f"{tokens / progress.seconds:,.0f} tokens/s")

    try:
        engine.answer(prompts, journal.done, keep)
    finally:
        engine.close()
        progress.end()
    print(
        f"{label}: {side.name}: {done:,} prompts, {tokens:,} tokens in {progress.seconds:.1f} s "
        f"({tokens / progress.seconds:,.0f} tokens/s)"
    )


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
