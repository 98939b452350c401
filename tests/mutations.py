"""Recipes that are broken at random, checked: no traceback, no hang, and a sentence for each thing that is wrong.

    python -m tests.mutations [--count 40000] [--seed 0]

A mutation takes one file of a shipped recipe and changes its tree (a value, a key, a level) or its bytes. What is
checked is a folder with that one file in it, and the `recipe.yaml` that it shares, as `apo-soup check` does.
"""

import argparse
import copy
import importlib
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
SECONDS = 5  # that a check may take
# What a check imports at the first sound file; here the clock is of one check after another.
IMPORTED_LATE = ("apo_soup.data.first_rows", "apo_soup.evals.first_items", "merge.checks", "mergekit.config")
# What people write where something else was meant, and what editors and generators leave.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 2**31, 2**63, 10**30, -(10**400), 0.5, -0.0, 1e-300, 1e308, float("nan"),
    float("inf"), -float("inf"), "", " ", "x", "auto", "true", "no", "1e-5", "1,000", "0x10", "None", "null", "~",
    "a/b", "/", ".", "..", "~/x", "~nobody/x", "a\x00b", "a\nb", "\u200b", "\ud7ff", "x" * 5000, "{{ x }}", "${HOME}",
    "$(id)", "*", "[", "%s%n", "../../etc/passwd", "https://u:p@h/x", "hf://a/b", "file:///x", "C:\\x", [], {}, [[]],
    [None], [1, "a"], [{}], {"a": 1}, {"a": {"b": {"c": []}}}, {1: 2}, {None: None}, {"": ""}, {True: False}, [[[1]]],
    {"x": float("nan")}, list(range(50)),
)  # fmt: skip
TEXTS = ("\t", "\x07", "\x00", "\xff", "'", '"', ":", "- ", "{", "[", "}", "&a ", "*a", "!!int ", "!x ", "#", "\n",
         "|\n", "<<: ", "? ", "%", "@", "`", "---\n", "...\n", ", ", "é", "\u2028", "\ufeff")  # fmt: skip
SHAPE = re.compile(r"expected .*got .*; |is not part of|^\s+- ", re.DOTALL)


@dataclass(frozen=True)
class Fault:
    """A mutation that a check did not stand, and what came of it."""

    name: str
    content: bytes
    what: str


def files() -> list[Path]:
    """The stage files of the shipped recipes, and what each recipe's share."""
    from apo_soup.config.kinds import stage_of_file

    found = sorted((ROOT / "recipes").glob("*/*.yaml"))
    return [file for file in found if stage_of_file(file) or file.name == "recipe.yaml"]


def mutated(file: Path, chance: random.Random) -> bytes:
    """The bytes of a file with one to three things changed."""
    content = file.read_bytes()
    if chance.random() < 0.25:
        for _ in range(chance.randint(1, 3)):
            content = _other_bytes(content, chance)
        return content
    tree = yaml.safe_load(content)
    for _ in range(chance.randint(1, 3)):
        tree = _other_tree(tree, chance)
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=chance.random() < 0.5).encode(errors="surrogatepass")


def _other_bytes(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content) + 1)
    way = chance.randrange(5)
    if way == 0:
        return (
            content[:at]
            + chance.choice(TEXTS).encode(chance.choice(("utf-8", "utf-8", "latin-1")), "ignore")
            + content[at:]
        )
    if way == 1:
        return content[:at] + content[at + chance.randint(1, 9) :]
    if way == 2:
        return content[:at]
    if way == 3 and content:
        lines = content.splitlines(keepends=True)
        line = chance.randrange(len(lines))
        return b"".join([*lines[: line + 1], *lines[line:]])
    return content.decode(errors="replace").encode("utf-16" if chance.random() < 0.3 else "utf-8") if at % 7 else b""


def _other_tree(tree: Any, chance: random.Random) -> Any:
    tree = copy.deepcopy(tree)
    places = list(_places(tree))
    if not places:
        return copy.deepcopy(chance.choice(VALUES))
    holder, key = chance.choice(places)
    way = chance.randrange(8)
    if way < 3:
        holder[key] = copy.deepcopy(chance.choice(VALUES))
    elif way == 3:
        del holder[key]
    elif way == 4:
        _, other = chance.choice(places)
        holder[key] = {other if isinstance(other, str) else "x": holder[key]}
    elif way == 5:
        holder[key] = [holder[key], copy.deepcopy(holder[key])]
    elif way == 6 and isinstance(holder, dict) and isinstance(key, str):
        at = chance.randrange(len(key) + 1)
        holder[key[:at] + chance.choice(("", "_", "x", " ", ".", "é")) + key[at + 1 :]] = holder.pop(key)
    else:
        other, name = chance.choice(places)
        holder[key] = copy.deepcopy(other[name])
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every holder and key of a tree."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from _places(tree[key])


def check(folder: Path) -> str | None:
    """What is wrong with the check of a folder; None where it stands."""
    from apo_soup.errors import UserError
    from apo_soup.plan.check import check_recipe

    def late(*_: Any) -> None:
        raise TimeoutError(f"no end within {SECONDS} s")

    previous = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        _, problems = check_recipe(folder)
    except UserError as error:
        problems = str(error).splitlines()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "".join(traceback.format_exception(error)[-6:])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    odd = [
        problem for problem in problems if not SHAPE.search(problem) or len(problem) > 1500 or "Traceback" in problem
    ]
    return f"odd sentence: {odd[0][:700]}" if odd else None


def faults(count: int, seed: int) -> Iterator[Fault]:
    """Those of `count` mutations that a check did not stand."""
    for module in IMPORTED_LATE:
        importlib.import_module(module)
    chance, sources = random.Random(seed), files()
    with tempfile.TemporaryDirectory() as place:
        for _ in range(count):
            file = chance.choice(sources)
            content = mutated(file, chance)
            folder = Path(place) / "recipe"
            folder.mkdir(exist_ok=True)
            others = [other for other in sources if other.parent == file.parent and other != file]
            beside = chance.choice(others) if file.name == "recipe.yaml" else file.with_name("recipe.yaml")
            shutil.copy(beside, folder)
            (folder / file.name).write_bytes(content)
            what = check(folder)
            (folder / file.name).unlink()
            (folder / beside.name).unlink()
            if what:
                yield Fault(f"{file.parent.name}/{file.name}", content, what)


def main() -> None:
    """Print every kind of fault, and how often it came; exit with 1 where there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for the first file of each kind of fault")
    options = parser.parse_args()
    began = time.monotonic()
    kinds: Counter[str] = Counter()
    for fault in faults(options.count, options.seed):
        kind = fault.what.strip().splitlines()[-1][:120]
        kinds[kind] += 1
        if kinds[kind] == 1:
            print(f"{fault.name}\n{fault.what}", flush=True)
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{len(kinds)}-{fault.name.replace('/', '-')}").write_bytes(fault.content)
    print(f"{options.count:,} mutations in {time.monotonic() - began:.0f} s: {sum(kinds.values())} faults")
    sys.exit(1 if kinds else 0)


if __name__ == "__main__":
    main()
