"""A block of a page of docs/ that a program writes, between two marks."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent


def write_block(page: Path, mark: str, told: Callable[[], str], words: list[str]) -> int:
    """Write what stands between `<!-- MARK -->` and `<!-- end of MARK -->`, or with `--check` say whether it is
    today's; returns the exit code.
    """
    text = page.read_text(encoding="utf-8")
    block = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- end of {mark} -->)", re.DOTALL)
    wanted = block.sub(lambda m: f"{m[1]}{told()}\n{m[2]}", text)
    if wanted == text:
        return 0
    if words == ["--check"]:
        print(f"{page.relative_to(ROOT)}: run python docs/{Path(sys.argv[0]).name}")
        return 1
    page.write_text(wanted, encoding="utf-8")
    return 0
