"""`accelerate launch` for `apo-soup run`: the same launcher, with the stage's own words last and its own exit code.

    python -m apo_soup.cli.launch [--config_file F] -m sft --config FILE

Where a stage ends with a mistake in one sentence, accelerate and torchrun add a traceback of themselves. Signals go on
to the stage, which ends its step; torchrun, left to itself, would give it 30 seconds.
"""

import logging
import os
import subprocess
import sys

from apo_soup.children import exit_code_of, forward_signals
from apo_soup.launcher import end_with_launcher
from apo_soup.stops import StopAsked
from apo_soup.streams import let_words_be_lost, mend_streams


def main(words: list[str]) -> int:
    """Launch what the words say; returns the exit code of the stage."""
    mend_streams()
    let_words_be_lost()
    end_with_launcher()
    # Before torch is imported. The agent's own lines tell of processes; what ended one has told it already.
    os.environ.setdefault("LOGLEVEL", "CRITICAL")
    os.environ.setdefault("TORCHELASTIC_SIGNALS_TO_HANDLE", "SIGQUIT")
    try:
        with forward_signals():
            return _launched(words)
    except StopAsked as stopped:
        print(stopped.sentence, file=sys.stderr)
        return stopped.code


def _launched(words: list[str]) -> int:
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # It lists the defaults that it takes; a stage says what it runs on.
    logging.getLogger("accelerate.commands.launch").setLevel(logging.ERROR)
    try:
        launch_command(launch_command_parser().parse_args(words))
    except subprocess.CalledProcessError as error:
        return exit_code_of(error.returncode, "the stage")
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        return exit_code_of(failure.exitcode, f"rank {rank}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
