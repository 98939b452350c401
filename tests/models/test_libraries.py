"""What a stage spares of its libraries."""

from helpers import python

FRESH = """
import sys
from apo_soup.models.libraries import keep_freed_memory, spare_compiler

spare_compiler()
import torch
print(torch.compile.__module__, "bitsandbytes.functional" in sys.modules, "torch._inductor.compile_fx" in sys.modules)

import numpy as np
from apo_soup.memory import memory_held

for keeps in (False, True):
    if keeps:
        keep_freed_memory()
    before = memory_held()
    block = np.ones(8_000_000)
    del block
    print(keeps, memory_held() - before > 60_000_000)
"""


def test_bitsandbytes_comes_without_the_compiler_and_freed_memory_stays():
    told = python("-c", FRESH)
    assert told.stdout.splitlines() == ["torch True False", "False False", "True True"], told.stderr
