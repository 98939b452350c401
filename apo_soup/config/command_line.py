"""The command line of every stage: `--config FILE`, flags, and `--key value` words that are laid over the file."""

import argparse
from typing import Any, Literal, NoReturn

from apo_soup.errors import UserError

# How a program is asked for the state of its folders alone; empty where it is to do its work.
AskedState = Literal["", "sentence", "json"]
STATE_HELP = "only say whether all is up to date (exit 0) or not (3)"
STATE_JSON_HELP = "the same for programs: a line of JSON a folder"
_ASKED: dict[str, Any] = {"dest": "state", "action": "store_const", "default": ""}
STATE_FLAGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--state", _ASKED | {"const": "sentence", "help": STATE_HELP}),
    ("--state-json", _ASKED | {"const": "json", "help": STATE_JSON_HELP}),
)


class OneSentenceParser(argparse.ArgumentParser):
    """A parser that tells a mistake as every other one is told."""

    def error(self, message: str) -> NoReturn:
        """Tell what is wrong with the words.

        Raises:
            UserError: always.
        """
        raise UserError(f"{self.prog}: expected words that it takes, got a refusal: {message}; see its --help")


def arguments(
    program: str, description: str, *extra: tuple[str, dict[str, Any]]
) -> tuple[argparse.Namespace, list[str], list[str]]:
    """Parse `--config FILE` and the program's own flags. What is left are `--key value` overrides; behind them, the
    names of the flags.

    Raises:
        UserError: a flag is missing, or has a wrong value or none.
    """
    parser = OneSentenceParser(
        prog=f"python -m {program}",
        description=description,
        epilog="Any key of the file may be given as --key value; dots reach inside, as --dataset_mixture.seed 1.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # a mistyped key is told, and not taken for a flag that begins so
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="stage file, such as recipes/tiny/sft.yaml")
    for flag, options in extra:
        parser.add_argument(flag, **options)
    return *parser.parse_known_args(), ["--config", *(flag for flag, _ in extra)]
