"""What both training stages add to TRL's trainers."""

import json
import time
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel, Trainer

from apo_soup.private import TrainerHooks
from apo_soup.training.checkpoints import COUNTED


class StageTrainer(TrainerHooks, Trainer):
    """Tokens and seconds that go on counting after a kill, and tied weights that are written once."""

    @property
    def trained_model(self) -> PreTrainedModel:
        """The model that is trained, as transformers or PEFT made it."""
        return cast(PreTrainedModel, self.model)

    @property
    def folder(self) -> Path:
        """Where checkpoints are written: the stage's partial folder."""
        return Path(cast(str, self.args.output_dir))

    def count_from(self, checkpoint: Path | None) -> None:
        """Go on with the counts of a checkpoint, or begin them."""
        file = checkpoint and checkpoint / COUNTED
        counted = json.loads(file.read_text()) if file and file.is_file() else {"tokens": 0, "seconds": 0.0}
        self.token_count = counted["tokens"]
        self.begun = time.monotonic() - counted["seconds"]

    def tokens_trained(self) -> float:
        """Tokens of all ranks, from the first step of the run; called by all ranks."""
        return self.token_count

    def write_checkpoint(self, *args: Any) -> None:
        """As transformers, with what was counted until now beside it."""
        counted = {"tokens": self.tokens_trained(), "seconds": round(time.monotonic() - self.begun, 2)}
        super().write_checkpoint(*args)
        if self.args.should_save:
            (self.folder / f"checkpoint-{self.state.global_step}" / COUNTED).write_text(json.dumps(counted))

    def write_weights(self, folder: str | None, state_dict: dict[str, torch.Tensor] | None) -> None:
        """As transformers, without the second copy of tied weights: the state dict that FSDP and DeepSpeed gather holds
        them twice, in tensors that no longer show it.
        """
        if state_dict is not None:
            tied = getattr(self.accelerator.unwrap_model(self.model), "all_tied_weights_keys", {})
            state_dict = {name: tensor for name, tensor in state_dict.items() if name not in tied}
        super().write_weights(folder, state_dict)
