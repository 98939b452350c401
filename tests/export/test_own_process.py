"""A process of its own for work that may crash."""

import os
import signal

import pytest

from apo_soup.errors import UserError
from apo_soup.export.own_process import OwnProcess, ProcessDied


class Killed:
    """What lives until it is told to die, or to refuse."""

    def killed(self, number: int) -> None:
        os.kill(os.getpid(), number)

    def refused(self) -> None:
        raise UserError("x: expected y")


def test_what_dies_or_refuses_in_a_process_of_its_own_is_told():
    process = OwnProcess(dict, [("a", 1)])
    assert (process.call("get", "a"), process.call("get", "b")) == (1, None)
    process.close()
    with pytest.raises(UserError, match="x: expected y"):
        OwnProcess(Killed).call("refused")
    with pytest.raises(ProcessDied, match="SIGSEGV"):
        OwnProcess(Killed).call("killed", signal.SIGSEGV)
    with pytest.raises(ProcessDied, match="SIGABRT"):
        OwnProcess(os.abort)
    with pytest.raises(ProcessDied, match="exit code 3"):
        OwnProcess(os._exit, 3)
