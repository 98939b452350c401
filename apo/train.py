"""Anchored preference optimisation with TRL's DPOTrainer, one model folder a soup member.

    accelerate launch -m apo --config recipes/tiny/apo.yaml
    accelerate launch -m apo --config recipes/smollm3/apo.yaml --member 2

APO-zero (D'Oosterlinck et al. 2024, arXiv 2408.06266) raises the likelihood of chosen answers and lowers that of
rejected ones, each anchored to the reference model: with r = beta * (log p(y|x) - log p_ref(y|x)),

    loss = 1 - sigmoid(r_chosen) + sigmoid(r_rejected)

It departs from stock TRL in the data only: pairs are tokenised and checked by `corpus` before the model is loaded.
"""

from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from corpus.prepare import training_rows
from pipeline.errors import told_by_library
from pipeline.recipe import Recipe
from pipeline.stage import Stage
from pipeline.training import Watch, adapters, begin, release, say, train_and_save, trl_arguments


class PreparedDPOTrainer(DPOTrainer):
    """DPOTrainer on pairs that already are `prompt_ids`, `chosen_ids` and `rejected_ids`."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        if "prompt_ids" in dataset.column_names:
            return dataset
        return super()._prepare_dataset(dataset, *args, **kwargs)


def train(recipe: Recipe, stage: Stage) -> None:
    """Prepare the pairs, train (or go on training) one member and put its folder into place."""
    for note in recipe.notes:
        say(note)
    arguments, model = trl_arguments(recipe, DPOConfig, stage.partial)
    rows = training_rows(recipe, say)
    begin(stage)

    with told_by_library(recipe.path):
        trainer = PreparedDPOTrainer(
            model=model.model_name_or_path,
            args=arguments,
            train_dataset=rows.splits["train"],
            eval_dataset=rows.splits.get("test"),
            processing_class=rows.tokenizer,
            callbacks=[Watch(stage.name)],
            **adapters(model),
        )
    train_and_save(trainer, stage, recipe, {"data": rows.sources, "pairs": len(rows.splits["train"])})
    del trainer
    release()
