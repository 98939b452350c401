"""Preparation as steps of a datatrove pipeline: a task makes a shard, a last one joins them.

datatrove (github.com/huggingface/datatrove) runs tasks on a machine or on Slurm, runs failed ones again and skips what
is done. The rows and what becomes of them are ours (`apo_soup/data/shards.py`): its documents pass through untouched.
"""

from abc import abstractmethod
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep
from transformers import PreTrainedTokenizerBase

from apo_soup.cli.rows import opened_recipe
from apo_soup.config.training import TrainingFile
from apo_soup.data.shards import join_shards, prepare_shard
from apo_soup.models.libraries import quiet_libraries
from apo_soup.models.recipe_tokenizer import recipe_tokenizer


class _RowsStep(PipelineStep):  # type: ignore[misc]  # datatrove has no types
    """A step that works on a stage file, opened where the task runs."""

    type = "apo-soup"

    def __init__(self, config: Path, words: list[str]):
        super().__init__()
        self.config, self.words = str(config), words

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
        """Do the work of task `rank` of `world_size`; passes on what came."""
        quiet_libraries()
        recipe = opened_recipe(Path(self.config), self.words)
        with self.track_time():
            self.work(recipe, recipe_tokenizer(recipe, print), rank, world_size)
        return data

    @abstractmethod
    def work(self, recipe: TrainingFile, tokenizer: PreTrainedTokenizerBase, rank: int, world_size: int) -> None:
        """What the task does with the rows of the file."""


class ShardStep(_RowsStep):
    """Task `rank` of `world_size` makes shard `rank + 1`."""

    name = "prepare a shard"

    def work(self, recipe: TrainingFile, tokenizer: PreTrainedTokenizerBase, rank: int, world_size: int) -> None:
        """Make the shard.

        Raises:
            UserError: a row or a source is refused, or the rows changed meanwhile.
        """
        prepare_shard(recipe, tokenizer, rank + 1, world_size)


class JoinStep(_RowsStep):
    """The one task that joins the shards."""

    name = "join the shards"

    def work(self, recipe: TrainingFile, tokenizer: PreTrainedTokenizerBase, rank: int, world_size: int) -> None:
        """Make the prepared folder.

        Raises:
            UserError: a shard is missing or damaged, or all rows together are refused.
        """
        print(join_shards(recipe, tokenizer))
