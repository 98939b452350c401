"""Rows of pairs, with where they come from, and of dropped prompts; and the files that hold them."""

import hashlib
import json
from pathlib import Path
from typing import Any

from apo.pairs.journal import Answer
from apo.pairs.prompts import Prompt
from apo.pairs.selection import DroppedPrompt, SelectedPair
from apo.pairs.side import AskedSide
from apo_soup.config.sides import LocalSide
from apo_soup.hashing import hash_value
from apo_soup.runs.secrets import redacted
from apo_soup.runs.stage import Stage

# Settings of a side that stand in the provenance as they are, and those that stand as JSON text.
PROVENANCE_SETTINGS = (
    "model", "revision", "engine", "temperature", "top_p", "top_k", "min_p", "max_new_tokens", "candidates", "seed",
    "dtype", "batch_size", "send_template_kwargs",
)  # fmt: skip
PROVENANCE_MAPPINGS = ("extra_body", "engine_kwargs")


def is_held_out(prompt: Prompt, share: float) -> bool:
    """Whether a prompt's pair goes into the test split, which is a `share` from 0 to 1 of all prompts.

    Decided by the prompt's words alone, so that it stays so when settings change.
    """
    text = json.dumps(prompt.messages, ensure_ascii=False)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "big") / 2**64 < share


def side_provenance(side: AskedSide, stage: Stage) -> dict[str, Any]:
    """Who answered and how: model with its content hash or commit, engine, sampling, seed, template."""
    settings = {k: side.settings[k] for k in PROVENANCE_SETTINGS if side.settings.get(k) is not None}
    # As text: a table needs the same type in every row, and both sides have these of their own.
    mappings = redacted({k: side.settings[k] for k in PROVENANCE_MAPPINGS if side.settings.get(k)})
    settings |= {k: json.dumps(v) for k, v in mappings.items()}
    template = "the server's own"
    if isinstance(side.keys, LocalSide):
        from apo.pairs.engines.rendering import side_tokenizer

        template = hash_value(side_tokenizer(side.keys, side.where).get_chat_template())
    return {**settings, "content": stage.inputs[side.name], "template": template}


def pair_row(
    pair: SelectedPair, sides: dict[str, dict[str, Any]], answers: dict[str, dict[str, Answer]]
) -> dict[str, Any]:
    """A preference row with its provenance.

    Args:
        sides: the provenance of each side, by its name.
        answers: each side's answers by prompt id.
    """
    prompt, chosen, rejected = pair.prompt, pair.chosen, pair.rejected
    return {
        "prompt": prompt.messages,
        "chosen": [{"role": "assistant", "content": chosen.completion.text}],
        "rejected": [{"role": "assistant", "content": rejected.completion.text}],
        "chat_template_kwargs": prompt.kwargs,
        "provenance": {
            "prompt": prompt.id,
            "row": prompt.source_row,
            "reference": prompt.reference,
            "verdicts": {"chosen": chosen.score, "rejected": rejected.score},
            "tokens": {"chosen": chosen.completion.tokens, "rejected": rejected.completion.tokens},
            "servers": {side: by_prompt[prompt.id].server for side, by_prompt in answers.items()},
            **sides,
        },
    }


def drop_row(dropped: DroppedPrompt) -> dict[str, Any]:
    """A prompt without a pair, and what was judged of each candidate."""
    candidates = {
        name: [{"fault": j.failed_filter, "score": j.score, "tokens": j.completion.tokens} for j in side]
        for name, side in (("strong", dropped.strong), ("weak", dropped.weak))
    }
    prompt = dropped.prompt
    return {"prompt": prompt.id, "row": prompt.source_row, "reason": dropped.reason, **candidates}


def write_rows(path: Path, rows: list[dict[str, Any]], file_format: str = "jsonl") -> None:
    """Rows as `path.jsonl` or `path.parquet`; an empty list leaves no file."""
    if not rows:
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
    prompt = [
        {**m, "tool_calls": json.dumps(m["tool_calls"], ensure_ascii=False)} if m.get("tool_calls") else m
        for m in row["prompt"]
    ]
    arguments = json.dumps(row["chat_template_kwargs"], ensure_ascii=False)
    return {**row, "prompt": prompt, "chat_template_kwargs": arguments}
