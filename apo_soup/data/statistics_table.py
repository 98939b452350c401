"""The counts of a preparation as a table, and the lines below it."""

import re
from typing import Any

from apo_soup.data.conversations.turn_fields import ROW_REASONING
from apo_soup.data.conversations.unread import holds_thoughts, judges
from apo_soup.data.statistics import DROP_REASONS, of_rows, told_limit
from apo_soup.data.token_shares import SHARE_TOLERANCE
from apo_soup.tables import text_table

TABLE_COLUMNS = {
    "source": "source",
    "mode": "mode",
    "read": "read",
    "kept": "kept",
    "rejected": "rejected",
    "dropped": "dropped",
    "tokens": "tokens",
    "trained": "trained",
    "reasoning": "of it thought",
    "mean_length": "mean",
    "p95_length": "p95",
    "lost": "lost",
}


def statistics_table(stats: dict[str, Any]) -> str:
    """The counts of a preparation, a line a source and mode, and what they come to."""
    lines = []
    for row in stats["sources"]:
        if not row["read"]:
            continue
        cells = {**row, "reasoning": _percent(row["reasoning"], row["trained"])}
        lines.append([f"{cells[c]:,}" if isinstance(cells[c], int) else str(cells[c]) for c in TABLE_COLUMNS])
    total = stats["total"]
    closing = f"{total['kept']:,} of {total['read']:,} rows kept"
    closing += f" ({total['rejected']:,} rejected, {total['dropped']:,} dropped"
    reasons = [f"{total[name]:,} {name.replace('_', ' ')}" for name in DROP_REASONS if total[name]]
    closing += f": {', '.join(reasons)})" if reasons else ")"
    closing += f"; {total['tokens']:,} tokens, {_percent(total['trained'], total['tokens'])} trained, "
    closing += f"{total['think_share']:.0%} in think rows, {total['lost']:,} lost to overflow"
    closing += f"; {total['cut']:,} kept rows lost some" if total["cut"] else ""
    if total["long"]:
        closing += f"\n{total['long']:,} row{'' if total['long'] == 1 else 's'} too long for "
        closing += f"{told_limit(stats['length'])} left out, with reasons in dropped.jsonl; they are no rejects"
    if total["samples"] > total["kept"]:
        closing += f"\n{total['samples']:,} samples of these rows, one an answer"
    if total["shortened"]:
        closing += (
            f"\nthe chat template leaves out the reasoning of {total['shortened_turns']:,} earlier answers in "
            f"{total['shortened']:,} rows; train_on: unroll trains every answer with its own"
        )
    packed = stats["packed"]
    if packed:
        closing += f"\n{packed['sequences']:,} sequences, {packed['filled']:.1%} of their positions filled"
        if packed["untrained"]:
            closing += f"; {packed['untrained']:,} tokens left out in sequences without a trained one"
    if stats["held_out"]:
        closing += "\n" + _held_out_line(stats["held_out"])
    table = text_table(list(TABLE_COLUMNS.values()), lines)
    return "\n".join([table, closing, *share_lines(stats["shares"]), *unread_lines(stats), *remark_lines(stats)])


def _held_out_line(held: dict[str, Any]) -> str:
    rows, prompts = (f"{held[n]:,} {n.removesuffix('s') if held[n] == 1 else n}" for n in ("rows", "prompts"))
    line = f"{rows} of {prompts} held out"
    if held["rows"] != held["asked"]:
        line += f" ({held['asked']:,} asked for; a prompt is not parted)"
    if held["near_prompts"]:
        line += f"; the prompts of {held['near_prompts']:,} are nearly the same as some that are trained on"
    return line


def share_lines(shares: list[dict[str, Any]]) -> list[str]:
    """The shares of several sources as a table, in rows and in trained tokens, and a line for each that missed what the
    recipe asks for; nothing for one source.
    """
    if len(shares) < 2:
        return []
    lines, missed = [], []
    for share in shares:
        rows, trained = (f"{share['rows']:,}", f"{share['rows_share']:.1%}"), f"{share['trained']:,}"
        lines.append([share["source"], *rows, trained, f"{share['trained_share']:.1%}"])
        asked = share.get("token_share")
        if asked is not None and abs(share["trained_share"] / asked - 1) > SHARE_TOLERANCE:
            missed.append(
                f"source {share['source']}: token_share {asked:g} became {share['trained_share']:.4f}, the nearest "
                "that whole rows allow"
            )
    columns = ["in the mixture, with copies", "rows", "of the rows", "trained tokens", "of the trained"]
    return [text_table(columns, lines), *missed]


def unread_lines(stats: dict[str, Any]) -> list[str]:
    """A line for each field that is not used; a warning where such fields say how a row is to be used."""
    lines = []
    for entry in stats["unread_fields"]:
        line = f"field {entry['field']} of {of_rows(entry)} is not used"
        if judges(entry["field"]):
            line = f"warning: {line}, and such a field says how a row is to be used"
        elif holds_thoughts(entry["field"]):
            line = f"warning: {line}, so what was thought before an answer is not trained"
            if not re.search(r"^turns\.|chosen|rejected", entry["field"]) and entry["field"] != ROW_REASONING:
                line += f"; in a row of one answer, as text, rename: {{{entry['field']}: {ROW_REASONING}}} reads it"
        lines.append(line)
    return lines


def remark_lines(stats: dict[str, Any]) -> list[str]:
    """A line for each remark on rows."""
    return [f"{entry['remark']}: {of_rows(entry)}" for entry in stats["remarks"]]


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"
