"""Every private name of a library that this project reads, calls or overrides, under a public name of our own.

A leading underscore means that a release may rename it without a word. So they stand here and nowhere else, and
`tests/test_private.py` looks each of them up in the libraries that are installed: an upgrade that breaks one fails
there first, and is mended here. Nothing is imported before it is needed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import torch
    from accelerate.state import GradientState
    from datasets import Dataset
    from transformers import PreTrainedConfig, Trainer
    from trl import DPOTrainer
else:  # at run time the hooks stand beside these, as bases of one class
    Trainer = DPOTrainer = object


# The class of TRL that its trainers' configurations inherit their keys from; it is found in TRL's source by this name.
TRL_BASE_CONFIG = "_BaseConfig"
# The setting by which a generation configuration says that it was made from a model's; it generates nothing else.
MADE_FROM_MODEL = "_from_model_config"


class TrainerHooks(Trainer):
    """What transformers' Trainer, and TRL's, name privately. Stands before the trainer in a class's bases; the methods
    that it calls can be overridden under their public names.
    """

    def write_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Write the checkpoint of the current step. No public method or callback encloses all of it: `on_save` comes
        behind it, when its seconds have passed.
        """
        super()._save_checkpoint(model, trial)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        self.write_checkpoint(model, trial)

    def write_weights(self, folder: str | None, state_dict: dict[str, torch.Tensor] | None) -> None:
        """Write the model's files; `state_dict`, tensors of any shape by name, is what FSDP and DeepSpeed gathered.
        `save_model`, which is public, gathers and writes in one.
        """
        super()._save(folder, state_dict)

    @property
    def token_count(self) -> float:
        """The tokens that one of TRL's trainers has trained on. It logs them as `num_tokens`, begins at 0 after a kill,
        and tells them nowhere else.
        """
        tokens: float = cast(Any, self)._total_train_tokens
        return tokens

    @token_count.setter
    def token_count(self, tokens: float) -> None:
        cast(Any, self)._total_train_tokens = tokens

    @property
    def loss_window(self) -> tuple[torch.Tensor, float, int]:
        """The losses added up since the last log, a number `[]` of this rank; those of all logs before; the last log's
        step. The Trainer begins all three anew when it goes on from a checkpoint, and tells them nowhere.
        """
        trainer = cast(Any, self)
        return trainer._tr_loss, trainer._total_loss_scalar, trainer._globalstep_last_logged

    @loss_window.setter
    def loss_window(self, window: tuple[torch.Tensor, float, int]) -> None:
        trainer = cast(Any, self)
        trainer._tr_loss, trainer._total_loss_scalar, trainer._globalstep_last_logged = window
        trainer._initial_global_step = 0  # the mean is over the steps of the whole run

    @property
    def logged_values(self) -> dict[str, list[float]]:
        """What one of TRL's trainers has collected of training since the last log, by name."""
        collected: dict[str, list[float]] = cast(Any, self)._metrics["train"]
        return collected

    def load_best(self) -> None:
        """Load the weights of the best checkpoint, at the end, where the arguments ask for that; it is not verified."""
        cast(Any, super())._load_best_model()

    def _load_best_model(self) -> None:
        self.load_best()

    def end_training(self, *args: Any) -> Any:
        """Load the best weights, and remove the last checkpoint where but one may stay; behind the last step, or that
        at which a callback ended the training.
        """
        return cast(Any, super())._finalize_training(*args)

    def _finalize_training(self, *args: Any) -> Any:
        return self.end_training(*args)

    def norm_taken(self, norm: float | None) -> None:
        """Called with the norm of each step's gradient, before it is cut; None where nobody takes it. The Trainer hands
        it to none of its callbacks.
        """

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        norm = cast(Any, super())._get_grad_norm(model, grad_norm=grad_norm)
        self.norm_taken(None if norm is None else float(norm))
        return norm

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        self.write_weights(output_dir, state_dict)

    def train_order(self, dataset: Any) -> torch.utils.data.Sampler[int] | None:
        """The sampler that draws training rows, seeded as the Trainer seeds it; `get_train_dataloader`, which is
        public, draws rows and not their numbers.
        """
        return self._get_train_sampler(dataset)

    def log_metric(self, name: str, value: float) -> None:
        """Set what one of TRL's trainers logs of training under a name, in place of what it has collected there."""
        cast(Any, self)._metrics["train"][name] = [value]


class DPOTrainerHooks(DPOTrainer):
    """What TRL's DPOTrainer calls under private names; override the public ones."""

    def tokenised(self, dataset: Dataset, *args: Any) -> Dataset:
        """The rows as token ids. The constructor calls it for every split, rows that are tokenised already included."""
        return super()._prepare_dataset(dataset, *args)

    def _prepare_dataset(self, dataset: Dataset, *args: Any) -> Dataset:
        return self.tokenised(dataset, *args)

    def with_reference(self, dataset: Dataset, split: str, batch_size: int) -> Dataset:
        """The rows with `ref_chosen_logps` and `ref_rejected_logps`, computed or read from TRL's own cache file. The
        constructor calls it last of all, for every split.
        """
        return super()._precompute_ref_logps(dataset, split, batch_size)

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        return self.with_reference(dataset, name, batch_size)

    def reference_cache(self, dataset: Dataset) -> Path:
        """The file that TRL keeps the reference's log-probabilities of these rows in; it opens it without a look."""
        from datasets.fingerprint import Hasher

        key = Hasher.hash((dataset._fingerprint, self._precompute_model_hash))
        return Path(dataset._get_cache_file_path(key))

    def inference_engine(self) -> torch.nn.Module:
        """DeepSpeed's engine around the model that is not trained yet, made once and kept where TRL keeps it."""
        from trl.models import prepare_deepspeed

        engine: torch.nn.Module | None = self._precompute_engine
        if engine is None:
            engine = self._precompute_engine = prepare_deepspeed(cast(Any, self.model), self.accelerator)
        return engine


@contextmanager
def without_model_hash() -> Iterator[None]:
    """Inside, a DPOTrainer is made without the SHA-256 of all its weights, which takes 18 s at 3 B parameters. TRL
    names the cache file of its reference log-probabilities by it; for who keeps them elsewhere there is no option.
    """
    from trl.trainer import dpo_trainer

    original = dpo_trainer.hash_module
    dpo_trainer.hash_module = lambda module: ""
    try:
        yield
    finally:
        dpo_trainer.hash_module = original


def save_without_upload(trainer: Trainer, folder: Path) -> None:
    """`Trainer.save_model` into `folder`, which would push to the Hub where the recipe asks for that: the finished
    folder is pushed, not this one.
    """
    trainer.save_model(str(folder), _internal_call=True)


def hold_gradients(state: GradientState, held: bool) -> None:
    """Whether the coming backward pass is one whose gradients are neither exchanged nor stepped with. accelerate's
    public `accumulate` counts backward passes by itself, and a packed step has as many as it has rows.
    """
    state._set_sync_gradients(not held)


def attention_implementation(config: PreTrainedConfig) -> str:
    """The attention that a loaded model runs with, such as `sdpa`; it can be set in public, not read."""
    name: str = config._attn_implementation
    return name


def causal_model_class(config: PreTrainedConfig) -> type | None:
    """The class that AutoModelForCausalLM takes for a configuration, before any weight is read; None for a model whose
    code comes with it.
    """
    from transformers import AutoModelForCausalLM

    found = AutoModelForCausalLM._model_mapping.get(type(config), None)
    return found[0] if isinstance(found, tuple) else found


def supports_attention(model_class: Any, name: str) -> bool:
    """Whether a class of transformers says that it runs with this attention: `flex_attention` or `sdpa`."""
    return getattr(model_class, {"flex_attention": "_supports_flex_attn", "sdpa": "_supports_sdpa"}[name], False)


def lets_attention_be_set(model_class: Any) -> bool:
    """Whether a class of transformers says that its attention is whatever is registered under a name."""
    return bool(getattr(model_class, "_supports_attention_backend", False))


def with_fingerprint(dataset: Dataset, fingerprint: str) -> Dataset:
    """The same rows under a fingerprint of our own, by which TRL names the file that it caches what it computes in."""
    keyed = copy.copy(dataset)
    keyed._fingerprint = fingerprint
    return keyed


@contextmanager
def outside_deepspeed() -> Iterator[None]:
    """Inside, `from_pretrained` loads a model whole, on the one rank that calls it, also where DeepSpeed would shard it
    over all ranks. transformers can forget DeepSpeed's settings in public, and not remember them.
    """
    from transformers.integrations import deepspeed

    settings = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = settings


def mergekit_template_names() -> list[str]:
    """The chat templates that mergekit knows by name; it lists them nowhere in public."""
    from importlib.resources import files

    from mergekit._data import chat_templates

    return sorted(f.name.removesuffix(".jinja") for f in files(chat_templates).iterdir() if f.name.endswith(".jinja"))


@contextmanager
def mergekit_config_changes(changes: dict[str, Any]) -> Iterator[None]:
    """Inside, mergekit's merges give the configuration that they make these values. It sets the number of layers alone,
    and saving then fails where the configuration has a list with an entry a layer.
    """
    from mergekit import merge

    original = merge._model_out_config

    def changed(*args: Any, **kwargs: Any) -> Any:
        config = original(*args, **kwargs)
        for key, value in changes.items():
            setattr(config, key, value)
        return config

    merge._model_out_config = changed
    try:
        yield
    finally:
        merge._model_out_config = original


@contextmanager
def mergekit_without_tables() -> Iterator[None]:
    """Inside, mergekit's merges take the tensors that a model's class in transformers has, as of an architecture that
    mergekit has no table of; no option of it says so.
    """
    from mergekit import merge
    from mergekit.architecture import infer_architecture_info

    original = merge.get_architecture_info

    def inferred(config: Any, options: Any) -> Any:
        infer_architecture_info.cache_clear()  # by path, and what lies there may have changed
        return infer_architecture_info(tuple(config.referenced_models()), config.base_model, options)

    merge.get_architecture_info = inferred
    try:
        yield
    finally:
        merge.get_architecture_info = original


class HarnessHooks:
    """What lm-eval's models call under private names; override the public ones. Stands before the model's class."""

    def score_tokens(self, requests: list[Any], *args: Any, **kwargs: Any) -> Any:
        """Log-probabilities of continuations, each (text, context ids, continuation ids): below `loglikelihood`, which
        has text alone and no lengths.
        """
        return super()._loglikelihood_tokens(requests, *args, **kwargs)  # type: ignore[misc]  # of the model's class

    def _loglikelihood_tokens(self, requests: list[Any], *args: Any, **kwargs: Any) -> Any:
        return self.score_tokens(requests, *args, **kwargs)

    def generate_tokens(self, *args: Any, **kwargs: Any) -> Any:
        """Token ids of a batch's answers: below `generate_until`, which returns text that is cut at stop words."""
        return super()._model_generate(*args, **kwargs)  # type: ignore[misc]  # of the model's class

    def _model_generate(self, *args: Any, **kwargs: Any) -> Any:
        return self.generate_tokens(*args, **kwargs)


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Inside, tensors have shapes and types but no data. torch has no public name for it."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        yield


@contextmanager
def results_seen(
    see: Callable[[Any, tuple[Any, ...], dict[str, Any], Any, list[torch.Tensor]], None],
) -> Iterator[None]:
    """Inside, `see` is told of every operation of torch's: itself, its arguments, its result, and the tensors in
    that, of any shape `[...]`. torch's modes of dispatch have no public name.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_iter

    class Seeing(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            tensors = [value for value in tree_iter(result) if isinstance(value, torch.Tensor)]
            see(func.overloadpacket, args, kwargs or {}, result, tensors)
            return result

    with Seeing():  # type: ignore[no-untyped-call]  # torch's
        yield
