"""The short form of `python -m tests.torture`: in forks of a process that has imported what the stage does."""

from helpers import python

SHORT = """
import errno, sys, tempfile
from collections import Counter
from pathlib import Path
sys.path[:0] = ["tests"]
import apo_soup.config.apo, apo_soup.config.merge, apo_soup.config.pairs, apo_soup.config.sft
import apo_soup.runs.entry
from torture import FAULTS, torture_files
counted = Counter()
with tempfile.TemporaryDirectory() as work:
    torture_files(Path(work).resolve() / "files", counted, {"disk full": errno.ENOSPC})
print(counted["tries"], sum(counted[fault] for fault in FAULTS))
"""


def test_no_call_of_a_stage_of_plain_files_can_be_its_last_and_lose_anything():
    result = python("-c", SHORT)
    tries, faults = map(int, result.stdout.splitlines()[-1].split())
    assert tries > 100
    assert faults == 0, result.stdout
