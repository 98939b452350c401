"""Run a training program, with the kept rows of every step written down, a line of JSON each, and a signal at a step.

    python tests/recorded_steps.py RECORD STOP sft --config FILE.yaml

At step STOP, counted from 1, the main process is sent SIGTERM, which ends it behind that step; 0: never.
"""

import json
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

from apo_soup.training.trainer import StageTrainer


def main() -> None:
    record, stop, program = Path(sys.argv.pop(1)), int(sys.argv.pop(1)), sys.argv.pop(1)
    original = StageTrainer.get_batch_samples

    def recorded(self: Any, *args: Any) -> Any:
        batches = original(self, *args)
        if batches[0]:
            step = self.state.global_step + 1
            line = {"step": step, "ranks": self.args.world_size, "rows": list(self.rows_of_step)}
            with record.open("a") as file:
                file.write(json.dumps(line) + "\n")
            if step == stop and self.args.process_index == 0:
                os.kill(os.getpid(), signal.SIGTERM)
        return batches

    StageTrainer.get_batch_samples = recorded  # type: ignore[method-assign]
    runpy.run_module(program, run_name="__main__")


main()
