"""A run folder that processes do not share is told by all of them, before anything is trained."""

from programs import two_ranks

EACH_RANK = """
import os, sys
from pathlib import Path
from accelerate import PartialState
from apo_soup.errors import run_main
from apo_soup.training.shared_folder import check_shared
os.chdir(sys.argv[1 + int(os.environ["RANK"])])
PartialState(cpu=True)
run_main(lambda: check_shared(Path("run"), "sft.yaml:4: output_dir", seconds=0.2))
"""


def test_a_folder_that_one_rank_does_not_see_is_told_by_both(tmp_path):
    for machine in "ab":
        (tmp_path / machine / "run").mkdir(parents=True)
    here, elsewhere = (str(tmp_path / machine) for machine in "ab")
    assert two_ranks("-c", EACH_RANK, here, here).wait().returncode == 0
    apart = two_ranks("-c", EACH_RANK, here, elsewhere).wait()
    assert apart.returncode
    told = "sft.yaml:4: output_dir: expected a folder that all processes share, got run, where rank 1 on "
    assert apart.stderr.count(told) >= 1
    assert "Traceback" not in apart.stderr
    assert not list(tmp_path.glob("*/run/.seen-*"))
