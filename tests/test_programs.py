"""Programs that a test starts at once: as ranks of one launch, or as the starts of two people."""

import signal

import pytest
from programs import Programs

ONE_FAILS = "import os, time; os.environ['NUMBER'] == '1' and os._exit(2); time.sleep(float(os.environ['SECONDS']))"


@pytest.mark.parametrize(("apart", "seconds", "codes"), [(False, "60", [-signal.SIGTERM, 2]), (True, "0.2", [0, 2])])
def test_one_that_fails_ends_the_other_ranks_and_no_other_start(apart, seconds, codes):
    both = tuple({"NUMBER": number, "SECONDS": seconds} for number in "01")
    started = Programs("-c", ONE_FAILS, environments=both, apart=apart)
    assert started.wait(30).returncode in (2, -signal.SIGTERM)
    assert started.codes == codes
