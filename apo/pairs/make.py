"""Synthetic preference pairs: a strong model's answers over a weak model's, on the same prompts.

    python -m apo.pairs --config recipes/tiny/pairs.yaml

SmolLM3's think pairs are Qwen3-32B's answers chosen over Qwen3-0.6B's. Here both sides answer the prompts in one mode,
`candidates` times each (`ask.py`); the answers are filtered and, where a row has a reference, verified (`judge.py`),
and the two that make the best pair are picked (`choice.py`, `selection.py`). That last step is ours: SmolLM3's pairs
were neither verified nor drawn more than once. Every prompt ends as a pair or in `drops.jsonl` with the reason.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from apo.pairs.ask import side_answers
from apo.pairs.choice import PairChoice
from apo.pairs.engines.engine import require_installed_engine
from apo.pairs.journal import Answer
from apo.pairs.judge import AnswerFilters, judged_side
from apo.pairs.language import answer_languages
from apo.pairs.pair_rows import drop_row, is_held_out, pair_row, side_provenance, write_rows
from apo.pairs.prompts import Prompt, PromptSet, read_prompts
from apo.pairs.selection import DroppedPrompt, Selection, selected_pairs
from apo.pairs.side import SIDE_NAMES, AskedSide, asked_judge, asked_side
from apo.pairs.summary import pair_metrics, summary_table
from apo.pairs.verdicts import JudgeCount, with_scores
from apo_soup.config.asking import AskingFile, FilterKeys
from apo_soup.config.pairs import PairsFile
from apo_soup.errors import UserError
from apo_soup.progress import say, tell
from apo_soup.runs.stage import Stage
from apo_soup.verify.answers import Verifier, verifier


def make_pairs(recipe: PairsFile, stage: Stage) -> None:
    """Ask both sides, judge, choose, and put `train`, `test` and `drops` into place.

    Raises:
        UserError: the prompts or the pairs file are at fault, an engine fails for good, or no prompt gives a pair.
    """
    for note in recipe.notes:
        say(note)
    judge = verifier(recipe.verifier, recipe.place("verifier")) if recipe.verifier else None
    prompts = read_prompts(recipe, judge)
    check_prompts(recipe, prompts, judge)
    stage.begin()
    sides = [asked_side(recipe, name) for name in SIDE_NAMES]
    # What the file gets wrong is told before anything is asked.
    filters, choice = answer_filters(recipe), pair_choice(recipe, judge)
    scorer = asked_judge(recipe)
    for side in [*sides, *([scorer] if scorer else [])]:
        require_installed_engine(side)
    answers = both_answers(sides, prompts.usable, stage)
    judged = {name: judged_side(by_prompt, prompts.usable, filters, judge) for name, by_prompt in answers.items()}
    verdicts, unscored = JudgeCount(), None
    if scorer:
        judged, verdicts, unscored = with_scores(scorer, prompts.usable, judged, stage)
    selection = selected_pairs(prompts, answers, judged, choice, recipe.length_balance)
    if not selection.pairs:
        reasons = ", ".join(f"{count} {reason}" for reason, count in selection.reasons.most_common())
        write_drops(stage.partial, prompts, selection.dropped)
        refusal = next((a.problem for of_side in answers.values() for a in of_side.values() if a.problem), unscored)
        told = f"{reasons}: {refusal}" if refusal else reasons
        raise UserError(
            f"{recipe.path}: expected at least one pair, got none of {len(prompts.usable)} prompts ({told}); change "
            f"what the reasons name, a prompt each in {stage.partial / 'drops.jsonl'}"
        )
    _write_folder(recipe, stage, prompts, selection, [*sides, *([scorer] if scorer else [])], answers, verdicts)


def both_answers(sides: list[AskedSide], prompts: list[Prompt], stage: Stage) -> dict[str, dict[str, Answer]]:
    """Each side's answers by prompt id. Where one side is refused every prompt, no pair can come of the other's, and it
    is not asked.

    Raises:
        UserError: as `side_answers` does.
    """
    answers: dict[str, dict[str, Answer]] = {}
    for side in sides:
        refused = next((name for name, found in answers.items() if all(a.problem for a in found.values())), None)
        if refused:
            told = f"not asked, for the {refused} side has no answer to any prompt"
            answers[side.name] = {p.id: Answer(p.id, [], problem=told) for p in prompts}
        else:
            answers[side.name] = side_answers(side, prompts, stage)
    return answers


def _write_folder(
    recipe: PairsFile,
    stage: Stage,
    prompts: PromptSet,
    selection: Selection,
    sides: list[AskedSide],
    answers: dict[str, dict[str, Answer]],
    verdicts: JudgeCount,
) -> None:
    """Rows and manifest, moved into place when they are whole; then the table."""
    folder = stage.result_folder()
    provenance = {side.name: side_provenance(side, stage) for side in sides}
    splits: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    for pair in selection.pairs:
        split = "test" if is_held_out(pair.prompt, recipe.test_share) else "train"
        splits[split].append(pair_row(pair, provenance, answers))
    for split, rows in splits.items():
        write_rows(folder / split, rows, recipe.format)
    write_drops(folder, prompts, selection.dropped)
    write_rows(folder / "rejects", [{"row": row, "reason": reason} for row, reason in prompts.rejected])
    judge = {"judge": asdict(verdicts)} if recipe.judge else {}
    metrics = pair_metrics(prompts, selection, answers) | judge | {split: len(rows) for split, rows in splits.items()}
    stage.finish(folder, metrics)
    say(summary_table(metrics))
    tell(f"{stage.name}: {stage.folder} written; {len(selection.pairs):,} pairs of {len(prompts.usable):,} prompts")


def write_drops(folder: Path, prompts: PromptSet, dropped: list[DroppedPrompt]) -> None:
    """`drops.jsonl`, empty where every prompt made a pair."""
    duplicates = [{"row": row, "reason": reason} for row, reason in prompts.duplicates]
    write_rows(folder / "drops", duplicates + [drop_row(one) for one in dropped], always=True)


def check_prompts(recipe: AskingFile, prompts: PromptSet, judge: Verifier | None) -> None:
    """Check that enough rows are prompts, and that some have a reference where a verifier is to judge by it.

    Raises:
        UserError: they are not, with the first bad row.
    """
    where = recipe.place("prompts")
    rejected, total = len(prompts.rejected), len(prompts.rejected) + len(prompts.usable)
    if not total:
        raise UserError(f"{where}: expected at least one row, got none; give another source")
    if rejected > recipe.max_reject_share * total:
        row, reason = prompts.rejected[0]
        raise UserError(
            f"{where}: expected at most {recipe.max_reject_share:.2%} of the rows without a prompt, got "
            f"{rejected} of {total}, the first of them {row}: {reason}; mend the rows or raise max_reject_share"
        )
    if judge and all(p.reference is None for p in prompts.usable):
        raise UserError(
            f"{recipe.place('verifier')}: expected a field {recipe.reference} in the rows to verify answers "
            "by, got none; name the field with reference, or leave verifier out"
        )


def answer_filters(recipe: AskingFile) -> AnswerFilters:
    """What the recipe's `mode` and `filters` ask of an answer.

    Raises:
        UserError: languages cannot be told apart as asked for.
    """
    keys, languages = recipe.filters or FilterKeys(), answer_languages(recipe)
    return AnswerFilters(recipe.mode == "think", keys.min_tokens, keys.max_tokens, keys.language, languages)


def pair_choice(recipe: PairsFile, judge: Verifier | None) -> PairChoice:
    """How the recipe chooses a pair; with a verifier, right over wrong unless it says otherwise."""
    keep = recipe.keep or ("right_over_wrong" if judge else "strong_over_weak")
    near = recipe.filters.near if recipe.filters else None
    return PairChoice(keep, recipe.tie_break, recipe.length_balance is not None, near, recipe.margin)
