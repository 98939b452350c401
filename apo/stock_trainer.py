"""TRL's own DPOTrainer on prepared pairs, for losses and options that the packed trainer does not know."""

from pathlib import Path
from typing import Any, cast

from datasets import Dataset
from trl import DPOTrainer

from apo.reference import ReferenceStore
from apo_soup.private import DPOTrainerHooks, with_fingerprint
from apo_soup.progress import warn
from apo_soup.training.going_on import complete_reference
from apo_soup.training.step_rows import CollatorWithRows
from apo_soup.training.trainer import StageTrainer


def remove_broken(cache: Path, pairs: int) -> None:
    """Remove a file of reference log-probabilities that is cut, or is of other pairs; TRL computes them again."""
    if not cache.is_file():
        return
    try:
        whole = len(Dataset.from_file(str(cache))) == pairs
    except (OSError, ValueError):  # pyarrow's errors are both
        whole = False
    if not whole:
        warn(f"reference: {cache} does not hold {pairs:,} pairs; it is computed again")
        cache.unlink()


class PreparedDPOTrainer(DPOTrainerHooks, StageTrainer, DPOTrainer):
    """The stock DPOTrainer on prepared pairs: `prompt_ids`, `chosen_ids`, `rejected_ids`.

    Made first, then `add_reference()`, then trained. TRL's constructor would run the reference pass itself; apart from
    it, what the constructor refuses is known to be a mistake in a recipe, and what the pass raises is not.

    Args:
        store: where reference log-probabilities are kept, and what decides them.
    """

    def __init__(self, *args: Any, store: ReferenceStore, **kwargs: Any):
        self.store = store
        self.reference_splits: dict[str, int] = {}  # split -> batch size of its reference pass, until it ran
        self.reference_model: Any = None
        super().__init__(*args, **kwargs)
        complete_reference(self.accelerator.unwrap_model(self.model))

    def tokenised(self, dataset: Dataset, *args: Any) -> Dataset:
        """The rows as they are: they hold tokens already."""
        return dataset

    def with_reference(self, dataset: Dataset, split: str, batch_size: int) -> Dataset:
        """The rows as they are: `add_reference` comes later. The reference model is kept for it, which under FSDP TRL
        drops at the end of its constructor.
        """
        self.reference_splits[split] = batch_size
        self.reference_model = self.ref_model
        return dataset

    def add_reference(self) -> None:
        """Give the rows of all splits `ref_chosen_logps` and `ref_rejected_logps`, where the arguments ask for them."""
        kept = self.ref_model
        self.ref_model = self.reference_model or self.ref_model
        if "train" in self.reference_splits:
            self.train_dataset = self.reference_added(cast(Dataset, self.train_dataset), "train")
        if "eval" in self.reference_splits:
            self.eval_dataset = self.reference_added(cast(Dataset, self.eval_dataset), "eval")
        self.ref_model, self.reference_model, self.reference_splits = kept, None, {}
        self.data_collator = CollatorWithRows(self.data_collator)

    def reference_added(self, dataset: Dataset, split: str) -> Dataset:
        """The rows with the reference's columns: TRL's own values and file, under a key of all that decides them; TRL's
        key is of weights and rows alone.
        """
        key = self.keyed_store(trainer="stock", ld_alpha=self.ld_alpha).key(split)
        keyed = with_fingerprint(dataset, key)
        if self.accelerator.is_main_process:
            remove_broken(self.reference_cache(keyed), len(keyed))
        self.accelerator.wait_for_everyone()
        return super().with_reference(keyed, split, self.reference_splits[split])

    def keyed_store(self, **more: Any) -> ReferenceStore:
        """The store of the precision that accelerate decided on: a launcher may ask for bf16 where no recipe does."""
        return self.store.with_content(
            mixed_precision=self.accelerator.mixed_precision, model_dtype=self.trained_model.dtype, **more
        )
