"""Rows of pairs, with where they come from, and of dropped prompts; and the files that hold them."""

import hashlib
import json
from pathlib import Path
from typing import Any

from apo.pairs.journal import Answer
from apo.pairs.judge import JudgedCompletion
from apo.pairs.prompts import Prompt
from apo.pairs.selection import DroppedPrompt, SelectedPair
from apo.pairs.side import AskedSide
from apo_soup.config.endpoint import EndpointKeys
from apo_soup.config.judges import EndpointJudge, RewardJudge
from apo_soup.config.sides import LocalSide, OpenaiSide, TransformersSide, VllmSide
from apo_soup.hashing import hash_value
from apo_soup.models.completion import Completion
from apo_soup.runs.secrets import redacted
from apo_soup.runs.stage import Stage


def is_held_out(prompt: Prompt, share: float) -> bool:
    """Whether a prompt's pair goes into the test split, which is a `share` from 0 to 1 of all prompts.

    Decided by the prompt's words alone, so that it stays so when settings change.
    """
    text = json.dumps(prompt.messages, ensure_ascii=False)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "big") / 2**64 < share


def side_provenance(side: AskedSide, stage: Stage) -> dict[str, Any]:
    """Who answered and how: model with its content hash or commit, engine, sampling, seed, template.

    Raises:
        UserError: the side's tokenizer cannot be loaded.
    """
    keys, sampling = side.keys, side.sampling
    if isinstance(keys, RewardJudge):
        return {"model": keys.written("model"), "engine": keys.kind, "content": stage.inputs[side.name]}
    local = keys if isinstance(keys, LocalSide) else None
    served = keys if isinstance(keys, EndpointKeys) else None
    settings = {
        "model": keys.written("model"),
        "revision": local.revision if local else None,
        "engine": keys.kind,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "max_new_tokens": sampling.max_new_tokens,
        "candidates": side.candidates,
        "seed": sampling.seed,
        "dtype": local.dtype if local and local.gives("dtype") else None,
        "batch_size": side.batch_size if isinstance(keys, TransformersSide) else None,
        "send_template_kwargs": keys.send_template_kwargs if isinstance(keys, OpenaiSide) else None,
    }
    # As text: a table needs the same type in every row, and both sides have these of their own.
    mappings = {
        "extra_body": served.extra_body if served else None,
        "engine_kwargs": keys.engine_kwargs if isinstance(keys, VllmSide) else None,
    }
    texts = {name: json.dumps(value) for name, value in redacted({k: v for k, v in mappings.items() if v}).items()}
    template = hash_value(keys.template) if isinstance(keys, EndpointJudge) else "the server's own"
    if local:
        from apo.pairs.engines.rendering import side_tokenizer

        template = hash_value(side_tokenizer(local, side.where).get_chat_template())
    known = {name: value for name, value in settings.items() if value is not None}
    return {**known, **texts, "content": stage.inputs[side.name], "template": template}


def pair_row(
    pair: SelectedPair, sides: dict[str, dict[str, Any]], answers: dict[str, dict[str, Answer]]
) -> dict[str, Any]:
    """A preference row with its provenance.

    Args:
        sides: the provenance of each side, by its name.
        answers: each side's answers by prompt id.
    """
    prompt, chosen, rejected = pair.prompt, pair.chosen, pair.rejected
    scores = {"chosen": chosen.judge_score, "rejected": rejected.judge_score}
    return {
        "prompt": prompt.messages,
        "chosen": [answer_turn(chosen.completion)],
        "rejected": [answer_turn(rejected.completion)],
        "chat_template_kwargs": prompt.kwargs,
        "provenance": {
            "prompt": prompt.id,
            "row": prompt.source_row,
            "reference": prompt.reference,
            "verdicts": {"chosen": chosen.score, "rejected": rejected.score},
            "tokens": {"chosen": chosen.completion.tokens, "rejected": rejected.completion.tokens},
            **({"scores": scores} if "judge" in sides else {}),
            "servers": {side: by_prompt[prompt.id].server for side, by_prompt in answers.items()},
            **sides,
        },
    }


def answer_turn(completion: Completion) -> dict[str, Any]:
    """A completion as an assistant turn; calls that a server parsed are the turn's, for the template that trains to
    write in its own form.
    """
    turn: dict[str, Any] = {"role": "assistant", "content": completion.text}
    calls = [{"type": "function", "function": call} for call in completion.calls]
    return {**turn, "tool_calls": calls} if calls else turn


def drop_row(dropped: DroppedPrompt) -> dict[str, Any]:
    """A prompt without a pair, and what was judged of each candidate."""
    candidates = {
        name: [candidate_record(j) for j in side] for name, side in (("strong", dropped.strong), ("weak", dropped.weak))
    }
    prompt = dropped.prompt
    return {"prompt": prompt.id, "row": prompt.source_row, "reason": dropped.reason, **candidates}


def candidate_record(judged: JudgedCompletion) -> dict[str, Any]:
    """What was found of a candidate, without its text."""
    scored = {} if judged.judge_score is None else {"judge_score": judged.judge_score}
    return {"fault": judged.failed_filter, "score": judged.score, "tokens": judged.completion.tokens, **scored}


def write_rows(path: Path, rows: list[dict[str, Any]], file_format: str = "jsonl", always: bool = False) -> None:
    """Rows as `path.jsonl` or `path.parquet`; an empty list leaves no file unless it is `always` there."""
    if not rows and not always:
        return
    if file_format == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist([_table_row(row) for row in rows]), path.with_suffix(".parquet"))
        return
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.with_suffix(".jsonl").write_text(text, encoding="utf-8", errors="surrogatepass")


def _table_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose free mappings are JSON text, as a column of a table needs one shape; `apo_soup.data` reads either."""
    turns: dict[str, Any] = {
        field: [
            {**m, "tool_calls": json.dumps(m["tool_calls"], ensure_ascii=False)} if m.get("tool_calls") else m
            for m in row[field]
        ]
        for field in ("prompt", "chosen", "rejected", "messages")
        if field in row
    }
    arguments = json.dumps(row["chat_template_kwargs"], ensure_ascii=False)
    return {**row, **turns, "chat_template_kwargs": arguments}
