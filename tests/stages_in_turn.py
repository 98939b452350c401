"""Train several stage files one after another, as a process of a launch; the imports of all are paid once.

    torchrun --nproc_per_node 2 tests/stages_in_turn.py sft FILE.yaml apo FILE.yaml@3

`@3` ends that training behind its third step, as a fault does. A launch trains into a folder once.
"""

import sys
from unittest.mock import patch

from apo_soup.config.load import load
from apo_soup.config.members import member_recipes
from apo_soup.training.entry import require_batch, training_stage
from apo_soup.training.run import leave
from apo_soup.training.trainer import StageTrainer


class EndedAtStepError(Exception):
    """What ends a training midway."""


def train(kind: str, file: str) -> None:
    """Train what a file asks for."""
    from apo.train import train_member
    from sft.train import train_model

    recipe = load(file, kind)
    for training in member_recipes(recipe) if kind == "apo" else [recipe]:
        stage = training_stage(training)
        require_batch(training, stage.name)
        (train_member if kind == "apo" else train_model)(training, stage)


def train_and_fall(kind: str, file: str, last: int) -> None:
    """The same, ended when so many steps are done."""
    original = StageTrainer.get_batch_samples

    def falls(self: StageTrainer, *args: object) -> object:
        if self.state.global_step == last:
            raise EndedAtStepError
        return original(self, *args)

    with patch.object(StageTrainer, "get_batch_samples", falls):
        try:
            train(kind, file)
        except EndedAtStepError:
            return
    raise AssertionError(f"{file} came to its end")


for kind, word in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    file, _, last = word.partition("@")
    if last:
        train_and_fall(kind, file, int(last))
    else:
        train(kind, file)
leave()
