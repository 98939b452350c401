"""The reference pass: log-probabilities of all answers under the model as it is before training, packed.

They come from the store where it holds them (`apo/reference.py`), and are computed and stored where it does not.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import Timeout
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel
from trl.trainer.utils import use_adapter

from apo.packable_models import model_reason
from apo.packed_pairs import PackedPairs
from apo.prepared_pairs import PreparedPairs
from apo.reference import ReferenceStore
from apo.scoring import answer_logprobs
from apo.steps import rows_of_every_pair
from apo.which_trainer import NotPackable, check_packed_logprobs
from apo_soup.hashing import hash_value
from apo_soup.models.shared_rows import RowSharing
from apo_soup.private import attention_implementation
from apo_soup.progress import Progress, warn
from apo_soup.runs.lock import holder_of, named_holder, way_out


class ReferencePass:
    """Scores prepared pairs under the reference.

    Args:
        model: the model that will be trained, with `add_scoring` called on it.
        runner: what computes: under FSDP a sharded copy of the model, under DeepSpeed an engine around it, else itself.
        accelerator: the trainer's.
        capacity: positions of a row.
        sharing: processes that share the rows of training, and those of the reference that are scored as in training.

    Attributes:
        passes: forward passes of this rank so far, probes not counted.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        runner: torch.nn.Module,
        accelerator: Accelerator,
        capacity: int,
        sharing: RowSharing | None = None,
    ):
        self.model, self.runner, self.accelerator, self.capacity = model, runner, accelerator, capacity
        self.sharing = sharing
        self.passes = 0

    @torch.no_grad()
    def check_packable(self, exact: bool) -> None:
        """Raise NotPackable where this model's packed log-probabilities are not those of its own plain sequences.

        `exact` says that nothing but the model's type makes it compute in less than float32.
        """
        text = self.model.config.get_text_config()
        reason = model_reason(text)  # once more: what the recipe loads it with may have changed its configuration
        if reason:
            raise NotPackable(reason)
        attention = attention_implementation(self.model.config)
        with self._at_rest(), self.accelerator.autocast():
            try:
                exact = exact and self.model.dtype == torch.float32
                check_packed_logprobs(self.runner, attention, self.accelerator.device, text.vocab_size, exact)
            except NotPackable as error:
                reason = str(error)
        # Ranks whose rounding differs must not part ways.
        (reason,) = broadcast_object_list([reason])
        if reason:
            raise NotPackable(reason)

    def logprobs(self, pairs: PreparedPairs, split: str, store: ReferenceStore) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[pairs]` of the chosen and the rejected answers, stored or computed now and stored."""
        ranks, rank = self.accelerator.num_processes, self.accelerator.process_index
        return self._kept(pairs, split, store, rows_of_every_pair(pairs.lengths(), self.capacity, ranks, rank), False)

    def epoch_logprobs(
        self, pairs: PreparedPairs, epochs: list[list[list[list[int]]]], store: ReferenceStore
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[pairs, E]` of the chosen and the rejected answers of the training pairs in E epochs, each
        scored in the very row that it is trained in and by the kernels that train it.

        Args:
            epochs: every rank's rows of each epoch; those that share them are one. A pair that is in none of them has
                zeros.
        """
        rank = self.accelerator.process_index
        if self.sharing is not None:
            rank //= self.sharing.size
            store = store.with_content(sharing=self.sharing.size)
        values = [
            self._kept(pairs, "train", store.with_content(rows=hash_value(rows)), rows[rank], True) for rows in epochs
        ]
        chosen, rejected = zip(*values, strict=True)
        return torch.stack(chosen, 1), torch.stack(rejected, 1)

    def _kept(
        self, pairs: PreparedPairs, split: str, store: ReferenceStore, rows: list[list[int]], trained: bool
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[pairs]` of the chosen and the rejected answers, read or computed and stored."""
        # Only the main process looks, and tells the others: on separate disks they might see otherwise, and a job that
        # runs beside this one may write in between.
        main = self.accelerator.is_main_process
        with self._locked(store, split):
            (stored,) = broadcast_object_list([store.read(split, len(pairs)) if main else None])
            values: tuple[Tensor, Tensor] = self._computed(pairs, rows, trained) if stored is None else stored
            if stored is None and main:
                store.write(split, *values)
        return values

    def _computed(self, pairs: PreparedPairs, rows: list[list[int]], trained: bool) -> tuple[Tensor, Tensor]:
        """Reference log-probabilities of the chosen and of the rejected answers, `[N]` each, on the CPU.

        Args:
            rows: this rank's.
            trained: whether rows run as in training, with gradients and checkpoints of activations: attention may have
                other kernels without.
        """
        sharing = self.sharing if trained else None
        ranks = self.accelerator.num_processes // (sharing.size if sharing else 1)
        device = self.accelerator.device
        model = self.accelerator.unwrap_model(self.model)
        adapter: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if isinstance(model, PeftModel):
            adapter = use_adapter(model, "ref" if "ref" in model.peft_config else None)
        # In float32: the sums they hold are, and Apple's GPUs have no other type.
        values = torch.zeros(len(pairs), 2, device=device)
        count = sum(map(len, rows)) * ranks
        progress = Progress("reference", "pairs", count, quiet=not self.accelerator.is_main_process)
        done = 0
        with self._at_rest(trained), adapter, self.accelerator.autocast(), torch.set_grad_enabled(trained):
            for numbers in rows:
                scores = self._answer_logprobs(pairs.packed_pairs(numbers), sharing).detach()
                self.passes += 1
                done += len(numbers) * ranks
                progress.at(done)
                if numbers and not (sharing and sharing.number):  # those that share a row have the same
                    values[torch.tensor(numbers, device=device)] = scores.float()
        progress.end()
        values = self.accelerator.reduce(values, "sum").cpu()
        return values[:, 0], values[:, 1]

    def _answer_logprobs(self, row: PackedPairs, sharing: RowSharing | None) -> Tensor:
        """The log-probabilities `[N, 2]` of the answers of the N pairs of a row `[1, S]`."""
        attention = attention_implementation(self.model.config)
        return answer_logprobs(self.runner, row.to(self.accelerator.device), attention, sharing)

    @contextlib.contextmanager
    def _at_rest(self, trained: bool = False) -> Iterator[None]:
        """The runner on this rank's device, without dropout or as it is trained; after it where and as it was."""
        device, home = self.accelerator.device, next(self.runner.parameters()).device
        was_training = self.runner.training
        # Quantised weights are there already, and cannot be moved; FSDP and DeepSpeed move theirs themselves.
        moves = home.type != device.type and self.runner is self.model
        self.runner.train(trained)
        if moves:
            self.runner.to(device)
        try:
            yield
        finally:
            self.runner.train(was_training)
            if moves:
                self.runner.to(home)

    @contextlib.contextmanager
    def _locked(self, store: ReferenceStore, split: str) -> Iterator[None]:
        """Hold the store's lock on the main process. While another job holds it the ranks meet every minute, so that
        none of them waits in a collective until it times out.
        """
        main, lock = self.accelerator.is_main_process, store.locked(split)
        waits, seconds = True, 3
        while waits:
            if main:
                with contextlib.suppress(Timeout):
                    lock.acquire(timeout=seconds)
                if not lock.is_locked and seconds < 60:
                    seconds, file = 60, Path(lock.lock_file)
                    holder = holder_of(file)
                    who = holder.told if holder else "the process"
                    warn(f"reference: waiting for {who} that computes these values{way_out(holder, file)}")
            (waits,) = broadcast_object_list([main and not lock.is_locked])
        with named_holder(lock) if main else contextlib.nullcontext():
            yield
