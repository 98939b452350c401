"""The command line of every stage: `--config FILE`, flags, and `--key value` words that are laid over the file."""

import argparse
from typing import Any


def arguments(
    program: str, description: str, *extra: tuple[str, dict[str, Any]]
) -> tuple[argparse.Namespace, list[str]]:
    """Parse `--config FILE` and the program's own flags; what is left are `--key value` overrides."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description=description,
        epilog="Any key of the file may be given as --key value; dots reach inside, as --dataset_mixture.seed 1.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # a mistyped key is told, and not taken for a flag that begins so
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="stage file, such as recipes/tiny/sft.yaml")
    for flag, options in extra:
        parser.add_argument(flag, **options)
    return parser.parse_known_args()
