"""Keys that mid, sft and apo files share: those of this project, and those of TRL that the stages read themselves.

The other keys of TRL and transformers are added from the installed sources (`apo_soup.config.library_keys`); those of
them that are read here have their types in the class all the same. A key declared here has the library's own name, type
and default; a test compares them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from apo_soup.config.adapter_keys import adapter_faults, adapter_remarks
from apo_soup.config.batch import SPLIT_KEYS, batch_faults
from apo_soup.config.in_words import as_written
from apo_soup.config.keys import (
    AboveZero,
    Flag,
    Minutes,
    Positive,
    Seed,
    Share,
    Table,
    Text,
    Texts,
    key,
    why_refused,
)
from apo_soup.config.library_values import library_faults
from apo_soup.config.mixture import Mixture, mode_faults
from apo_soup.config.nearest import nearest
from apo_soup.config.run_keys import run_faults, run_remarks
from apo_soup.config.schedules import schedule_faults
from apo_soup.config.shared_rows import sharing_faults, sharing_remarks
from apo_soup.config.stage_file import Fault, Remark, StageFile
from apo_soup.config.suite_keys import EvalSuiteKeys, eval_suite_faults


@dataclass(frozen=True)
class NewToken:
    """A token that a file adds to the tokenizer: its text, whether it is a special one, and the key that names it."""

    text: str
    special: bool
    key: str


@dataclass(frozen=True)
class AskedWindow:
    """The base of rotary positions and the longest row that a file asks for; None where it leaves the model's own."""

    rope_theta: float | None = None
    positions: int | None = None


# What transformers knows to report to.
TRACKERS = (
    "none", "all", "azure_ml", "comet_ml", "mlflow", "neptune", "tensorboard", "trackio", "wandb", "codecarbon",
    "clearml", "dagshub", "flyte", "dvclive", "swanlab", "kubeflow",
)  # fmt: skip


class TrainingFile(StageFile):
    """What a model is trained from, on which rows, and how they are cut."""

    model_name_or_path: Text = key(meaning="model to begin with: a folder or an id of the Hub", path=True, input=True)
    dataset_mixture: Mixture = key(meaning="the rows")
    chat_template: Text | None = key(
        None,
        "`apo-soup` (ours), `trl` (TRL's training template of the tokenizer's own), Jinja text, or a `.jinja` file; "
        "without it the tokenizer's own",
        path=True,
        input=True,
    )
    chat_template_kwargs: Table | None = key(None, "template arguments for every row; a row's own win", rows=True)
    max_reject_share: Share = key(0.01, "share of unusable rows that stops the run", cosmetic=True)
    overflow: Literal["truncate", "drop", "split"] | None = key(
        None,
        "what becomes of documents longer than `max_length`: `truncate` (default), `drop`, in sft also `split`",
        rows=True,
    )

    unknown_fields: Literal["count", "refuse"] = key(
        "count", "fields of rows that nothing reads: count and name them, or stop", cosmetic=True
    )

    special_tokens_in_text: Literal["refuse", "escape", "allow"] = key(
        "refuse",
        "control tokens inside texts, such as an end of turn: refuse the row, `escape` them as plain text, or `allow` "
        "them as they are",
        rows=True,
    )

    model_revision: Text = key("main", "branch, tag or commit of a model of the Hub", loading=True)
    trust_remote_code: Flag = key(False, "run code that comes with the model")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] | None = key(
        "float32", "type that the finished weights are written in, and a frozen base is loaded in", loading=True
    )
    master_dtype: Literal["float32", "bfloat16"] = key(
        "float32",
        "type that weights are trained in, with their optimiser; small steps are lost in `bfloat16`",
        loading=True,
    )
    attn_implementation: Text | None = key(None, "attention of transformers, such as `sdpa` or `flex_attention`")
    model_init_kwargs: Table | Text | None = key(None, "further arguments of `from_pretrained`", loading=True)
    use_peft: Flag = key(False, "train a LoRA adapter on the frozen model, and merge it at the end")
    lora_target_modules: Texts | None = key(
        None,
        "layers that the adapter changes: names, a pattern of paths, or `all-linear`, which holds without the key",
        adapter=True,
    )
    lora_target_parameters: Texts | None = key(
        None, "parameters that the adapter changes, such as those of experts", adapter=True
    )
    lora_modules_to_save: Texts | None = key(None, "layers that are trained whole beside the adapter", adapter=True)
    load_in_4bit: Flag = key(
        False, "a frozen base of 4 bits a weight (QLoRA); needs `pip install 'apo-soup[qlora]'`", loading=True
    )
    load_in_8bit: Flag = key(False, "a frozen base of 8 bits a weight; needs the same package", loading=True)
    max_length: Positive = key(1024, "longest sequence, in tokens", rows=True, main=True)
    per_device_train_batch_size: Positive = key(8, "sequences or pairs a micro-batch on each process", main=True)
    gradient_accumulation_steps: Positive = key(1, "micro-batches an optimiser step", main=True)
    global_batch_size: Positive | None = key(
        None,
        "sequences or pairs an optimiser step, on all processes together; `gradient_accumulation_steps` follows from "
        "it, so a file holds on any number of processes",
        main=True,
    )
    sequence_parallel_size: Positive = key(
        1,
        "processes that share each packed row, for rows longer than one device holds: activations are divided by it, "
        "and a step has the same rows; it divides the model's key-value heads (`docs/scale.md`)",
        cosmetic=True,
    )
    seed: Seed = key(42, "seed of the training", main=True)
    use_cpu: Flag = key(False, "stay on the CPU; set by itself where there is no accelerator")
    use_liger_kernel: Flag = key(False, "fused layers of liger-kernel, where it is installed")
    tf32: Flag | None = key(None, "TensorFloat-32 products on a GPU", loading=True)
    dataset_num_proc: Positive | None = key(None, "processes that prepare rows", cosmetic=True)
    report_to: list[Text] | Text | None = key("none", "trackers such as `wandb` or `tensorboard`", cosmetic=True)
    logging_dir: Text | None = key(
        None, "folder that trackers write to; `logs/STAGE` of the run where it is not given", cosmetic=True
    )
    logging_nan_inf_filter: Flag = key(
        False, "let the mean of the losses before it stand for a loss that is not finite, which else ends the run"
    )
    hang_minutes: Minutes = key(
        20.0, "minutes without a step after which each process says where it stands; 0: never", cosmetic=True
    )
    spike_factor: AboveZero | None = key(
        20.0,
        "a loss or gradient norm above all of the last 64 steps, and this many times their spread above their median, "
        "is told with the step's rows; null: never",
        cosmetic=True,
    )
    on_spike: Literal["say", "stop"] = key(
        "say", "what such a step does: be told, or stop the run before it is taken, with a checkpoint", cosmetic=True
    )
    eval_suite: EvalSuiteKeys | None = key(
        None, "tasks of a suite that score the model while it trains; they change no weight but by `keep_best`"
    )
    push_to_hub: Flag = key(False, "send the finished folder to the Hub", cosmetic=True)
    hub_model_id: Text | None = key(None, "repository that the folder is sent to", cosmetic=True)
    hub_token: Text | None = key(None, "token of the Hub; better `hf auth login`", cosmetic=True, secret=True)
    hub_private_repo: Flag | None = key(None, "make the repository a private one", cosmetic=True)

    if TYPE_CHECKING:
        # Keys of the libraries that are read here too: the classes of the files have them from the installed sources.
        accelerator_config: dict[str, Any] | str | None
        activation_offloading: bool
        auto_find_batch_size: bool
        average_tokens_across_devices: bool
        bf16: bool | None
        bf16_full_eval: bool
        dataloader_drop_last: bool
        dataloader_num_workers: int
        dataloader_prefetch_factor: int | None
        enable_jit_checkpoint: bool
        hub_revision: str | None
        hub_strategy: str
        ignore_data_skip: bool
        debug: list[Any] | str
        deepspeed: dict[str, Any] | str | None
        do_train: bool
        eval_on_start: bool
        eval_steps: float | None
        eval_strategy: str
        fp16: bool
        fp16_full_eval: bool
        greater_is_better: bool | None
        fsdp: bool | list[str] | str | None
        fsdp_config: dict[str, Any] | str | None
        load_best_model_at_end: bool
        log_level: str
        log_level_replica: str
        logging_steps: float
        logging_strategy: str
        lora_dropout: float
        learning_rate: float
        lr_scheduler_kwargs: dict[str, Any] | str | None
        lr_scheduler_type: str
        max_steps: int
        metric_for_best_model: str | None
        optim: str | None
        optim_args: str | None
        optim_target_modules: list[str] | str | None
        padding_free: bool
        project: str
        run_name: str | None
        save_only_model: bool
        save_steps: float
        save_strategy: str
        torch_compile_backend: str | None
        torch_compile_mode: str | None
        warmup_steps: float

    @property
    def loading_arguments(self) -> dict[str, Any]:
        """The further arguments that the model is loaded with; none where they are a text, which no mapping is."""
        return self.model_init_kwargs if isinstance(self.model_init_kwargs, dict) else {}

    @property
    def repository(self) -> tuple[str, str | None] | None:
        """The repository of the Hub, and the branch of it, that the file names for its folder; None where none is sent
        there.
        """
        return (self.hub_model_id, self.hub_revision) if self.push_to_hub and self.hub_model_id is not None else None

    @property
    def given_dtype(self) -> str | None:
        """The type of the finished weights as the file gives it, without `torch.`; None where it gives none."""
        loading = self.loading_arguments
        asked = loading.get("dtype", loading.get("torch_dtype", self.dtype if self.gives("dtype") else None))
        return None if asked is None else str(asked).removeprefix("torch.")

    @property
    def settled_elsewhere(self) -> frozenset[str]:
        """Where the global batch is given, the keys that say how it comes about; and a suite that chooses nothing."""
        chooses = self.eval_suite is not None and self.eval_suite.keep_best is not None
        settled = frozenset(("global_batch_size",) if self.global_batch_size is None else SPLIT_KEYS)
        return settled if chooses else settled | {"eval_suite"}

    @property
    def packs(self) -> bool:
        """Whether a row holds several documents or pairs."""
        return True

    @property
    def end_of_turn(self) -> str | None:
        """The end-of-turn token that the file names in place of the tokenizer's."""
        return None

    @property
    def new_tokens(self) -> list[NewToken]:
        """The tokens that the file adds to the tokenizer, in the order of their ids."""
        return []

    @property
    def asked_window(self) -> AskedWindow:
        """The window that the model gets in place of its own."""
        return AskedWindow()

    @property
    def embedding_multiple(self) -> int | None:
        """What the number of rows of resized embeddings is a multiple of; None where they are not resized."""
        return None

    def faults(self) -> Iterator[Fault]:
        yield from mode_faults(self.chat_template_kwargs)
        named = [self.report_to] if isinstance(self.report_to, str) else self.report_to or []
        for name in named:
            if name not in TRACKERS:
                way = nearest(name, TRACKERS) or "name one of them, or none"
                yield Fault("report_to", f"expected trackers of {', '.join(TRACKERS)}, got {name or repr(name)}; {way}")
        for name, value in self.given_with("refused").items():
            why, way = why_refused(type(self).model_fields[name]) or ("", "")
            yield Fault(name, f"expected no such key, since {why}, got {as_written(value)}; {way}")
        if self.gives("do_train") and not self.do_train:
            yield Fault("do_train", "expected no such key, since a stage always trains, got false; leave the key out")
        yield from adapter_faults(self)
        yield from schedule_faults(self)
        yield from run_faults(self)
        yield from batch_faults(self)
        yield from sharing_faults(self)
        yield from eval_suite_faults(self)
        yield from library_faults(self)

    def remarks(self) -> Iterator[Remark]:
        yield from adapter_remarks(self)
        yield from sharing_remarks(self)
        yield from run_remarks(self)
