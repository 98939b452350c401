"""Where one process of a launch ends, the others break in a collective: a line, not a traceback over the reason."""

import pytest
from programs import two_ranks

BREAKS = """
import os, signal, sys, time
import torch
from apo_soup.errors import run_main
def main():
    torch.distributed.init_process_group("gloo")
    torch.distributed.all_reduce(torch.ones(1))
    if os.environ["RANK"] == "1":
        how = sys.argv[1]
        if how == "raises":
            raise ZeroDivisionError("its own fault")
        os.kill(os.getpid(), getattr(signal, how))
        time.sleep(60)
    torch.distributed.all_reduce(torch.ones(1))
run_main(main)
"""


@pytest.mark.parametrize(("how", "codes", "says"), [
    ("SIGTERM", [143, 143], "stopped by SIGTERM; "),
    ("SIGKILL", [143, -9], ""),
    ("raises", [143, 1], "unexpected ZeroDivisionError: "),
])  # fmt: skip
def test_the_other_rank_names_who_has_the_reason(how, codes, says):
    running = two_ranks("-c", BREAKS, how)
    result = running.wait()
    assert running.codes == codes
    assert result.stderr.count("Traceback") == (how == "raises")
    assert says in result.stderr
    # Whichever comes first: the collective breaks, or the launcher's signal comes.
    broken, stopped = "rank 0: another process of this launch has ended (", "stopped by SIGTERM; run the same command"
    assert (broken in result.stderr) + result.stderr.count(stopped) == (2 if how == "SIGTERM" else 1)
