"""Preparation as steps of a datatrove pipeline: a task makes a shard, a last one joins them.

datatrove (github.com/huggingface/datatrove) runs tasks on a machine or on Slurm, runs failed ones again and skips what
is done. The rows and what becomes of them are ours (`apo_soup/data/shards.py`): its documents pass through untouched.
"""

from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from apo_soup.config.kinds import stage_of_file
from apo_soup.config.load import load
from apo_soup.config.training import TrainingFile
from apo_soup.data.shards import join_shards, prepare_shard
from apo_soup.models.libraries import quiet_libraries
from apo_soup.models.recipe_tokenizer import recipe_tokenizer


class _RowsStep(PipelineStep):  # type: ignore[misc]  # datatrove has no types
    """A step that works on a stage file, loaded where the task runs."""

    type = "apo-soup"

    def __init__(self, config: Path, words: list[str]):
        super().__init__()
        self.config, self.words = str(config), words

    def recipe(self) -> TrainingFile:
        """The checked file.

        Raises:
            UserError: it is wrong, or no file of rows.
        """
        quiet_libraries()
        path = Path(self.config)
        recipe = load(path, stage_of_file(path) or "sft", self.words)
        assert isinstance(recipe, TrainingFile)
        return recipe


class ShardStep(_RowsStep):
    """Task `rank` of `world_size` makes shard `rank + 1`."""

    name = "prepare a shard"

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
        """Make the shard; passes on what came."""
        recipe = self.recipe()
        with self.track_time():
            prepare_shard(recipe, recipe_tokenizer(recipe, print), rank + 1, world_size)
        return data


class JoinStep(_RowsStep):
    """The one task that joins the shards."""

    name = "join the shards"

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
        """Make the prepared folder; passes on what came."""
        recipe = self.recipe()
        with self.track_time():
            print(join_shards(recipe, recipe_tokenizer(recipe, print)))
        return data
