"""What the keys of axolotl, LLaMA-Factory and ms-swift are here: ours by another name, or nothing, with a reason."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_Ours = dict[str, Any]


@dataclass(frozen=True)
class ForeignKeys:
    """A project's keys.

    Attributes:
        name: the project's.
        renamed: keys that are ours by another name.
        values: of a key, the values that are ours by another name.
        left_out: beginnings of keys that nothing here needs, with the reason; the first that fits holds.
        base: the key of the base model.
    """

    name: str
    base: str
    renamed: dict[str, str]
    values: dict[str, Callable[[Any], _Ours]]
    left_out: dict[str, str]

    def reason(self, key: str) -> str:
        """Why a key is left out."""
        return next((why for start, why in self.left_out.items() if key.startswith(start)), "nothing here reads it")


_SPEED = "it concerns speed or memory alone"
_TRACKER = "trackers are named in report_to"
_LAUNCH = "accelerate's launch file says it: --launch fsdp2.yaml"
_ITSELF = "a stage does so by itself"
_ATTENTION = {"flash_attention_2", "sdpa", "eager", "flex_attention"}


def _scheduler(value: Any) -> _Ours:
    return {"lr_scheduler_type": value}


def _min_rate(value: Any) -> _Ours:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        return {}
    return {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": value}}


def _if_true(key: str, value: Any) -> Callable[[Any], _Ours]:
    return lambda given: {key: value} if given is True else {}


def _bf16(value: Any) -> _Ours:
    return {"bf16": value in ("auto", "full", True)}


def _adapter(value: Any) -> _Ours:
    return {"use_peft": True, **({"load_in_4bit": True} if value == "qlora" else {})}


def _special_tokens(value: Any) -> _Ours:
    tokens = value if isinstance(value, dict) else {}
    return {"eos_token": tokens["eos_token"]} if tokens.get("eos_token") else {}


def _attention(value: Any) -> _Ours:
    return {"attn_implementation": value} if isinstance(value, str) and value in _ATTENTION else {}


def _checkpointing(value: Any) -> _Ours:
    return {"gradient_checkpointing": bool(value)}


AXOLOTL = ForeignKeys(
    "axolotl",
    "base_model",
    renamed={
        "sequence_len": "max_length",
        "micro_batch_size": "per_device_train_batch_size",
        "num_epochs": "num_train_epochs",
        "optimizer": "optim",
        "warmup_ratio": "warmup_steps",
        "sample_packing": "packing",
        "revision_of_model": "model_revision",
        "rl_beta": "beta",
        "dpo_beta": "beta",
        "dpo_label_smoothing": "label_smoothing",
        "adam_eps": "adam_epsilon",
        "peft_use_dora": "use_dora",
        "peft_use_rslora": "use_rslora",
        "chat_template_jinja": "chat_template",
        "eval_batch_size": "per_device_eval_batch_size",
        "wandb_project": "project",
        "wandb_name": "run_name",
        "tokens": "add_tokens",
    },
    values={
        "lr_scheduler": _scheduler,
        "bf16": _bf16,
        "bfloat16": _bf16,
        "adapter": _adapter,
        "lora_target_linear": _if_true("lora_target_modules", "all-linear"),
        "flash_attention": _if_true("attn_implementation", "flash_attention_2"),
        "sdp_attention": _if_true("attn_implementation", "sdpa"),
        "flex_attention": _if_true("attn_implementation", "flex_attention"),
        "attn_implementation": _attention,
        "gradient_checkpointing": _checkpointing,
        "cosine_min_lr_ratio": _min_rate,
        "train_on_inputs": lambda value: {"assistant_only_loss": not value},
        "special_tokens": _special_tokens,
        "use_wandb": _if_true("report_to", "wandb"),
        "use_tensorboard": _if_true("report_to", "tensorboard"),
        "resize_token_embeddings_to_32x": lambda value: (
            {"resize_embeddings": True, "resize_embeddings_multiple_of": 32} if value else {}
        ),
    },
    left_out={
        "dataset_prepared_path": "prepared rows lie in the run's folder",
        "dataset_processes": _SPEED,
        "model_type": "transformers finds it by config.json",
        "tokenizer_type": "transformers finds it by the tokenizer's files",
        "is_": "transformers finds it by config.json",
        "resume_from_checkpoint": _ITSELF,
        "auto_resume": _ITSELF,
        "pad_to_sequence_len": "rows are padded to the longest of their batch",
        "eval_sample_packing": "held-out rows are packed as the others are",
        "remove_unused_columns": "rows come prepared",
        "wandb": _TRACKER,
        "trackio": _TRACKER,
        "swanlab": _TRACKER,
        "use_swanlab": _TRACKER,
        "mlflow": _TRACKER,
        "fsdp": _LAUNCH,
        "dp_": _LAUNCH,
        "context_parallel": _LAUNCH,
        "tensor_parallel": _LAUNCH,
        "expert_parallel": _LAUNCH,
        "lora_mlp_kernel": _SPEED,
        "lora_qkv_kernel": _SPEED,
        "lora_o_kernel": _SPEED,
        "xformers": _SPEED,
        "flash_attn": _SPEED,
        "attn_implementation": "not one of transformers' own; its default is taken",
        "plugins": "plugins are axolotl's own",
        "liger": "write use_liger_kernel: true where liger-kernel is installed",
        "cut_cross_entropy": _SPEED,
        "use_kernels": _SPEED,
        "activation_offloading": _SPEED,
        "cosine_min_lr_ratio": "expected a share of the learning rate",
        "chat_template": "a template of axolotl's; the model's own is taken",
        "eot_tokens": "the template tells where a turn ends",
        "processor_type": "images and sounds are not trained here",
        "skip_prepare_dataset": "images and sounds are not trained here",
        "strict": "every key is checked here",
        "shuffle_merged_datasets": "rows are always shuffled, with dataset_mixture.seed",
        "group_by_length": "rows are packed, or drawn at random",
        "loss_watchdog": "a loss that is not finite ends a run, and a spike is told",
        "early_stopping": "not done here; load_best_model_at_end keeps the best checkpoint",
        "special_tokens": "the tokenizer's own are taken",
        "evals_per_epoch": "no rows are held out (val_set_size)",
        "val_set_size": "no rows are held out",
        "train_on_inputs": "the default",
        "debug": "it concerns axolotl's own output",
    },
)


def _quantised(value: Any) -> _Ours:
    return {"load_in_4bit": True} if value == 4 else {"load_in_8bit": True} if value == 8 else {}


LLAMA_FACTORY = ForeignKeys(
    "LLaMA-Factory",
    "model_name_or_path",
    renamed={
        "cutoff_len": "max_length",
        "lora_rank": "lora_r",
        "preprocessing_num_workers": "dataset_num_proc",
        "pref_beta": "beta",
        "warmup_ratio": "warmup_steps",
        "packing": "packing",
        "additional_target": "lora_modules_to_save",
        "enable_liger_kernel": "use_liger_kernel",
        "dpo_label_smoothing": "label_smoothing",
        "overwrite_output_dir": "overwrite_output_dir",
    },
    values={
        "finetuning_type": lambda value: {"use_peft": True} if value == "lora" else {},
        "lora_target": lambda value: {"lora_target_modules": "all-linear" if value == "all" else _listed(value)},
        "quantization_bit": _quantised,
        "flash_attn": lambda value: (
            {"attn_implementation": {"fa2": "flash_attention_2", "sdpa": "sdpa"}[value]}
            if value in ("fa2", "sdpa")
            else {}
        ),
        "train_on_prompt": lambda value: {"assistant_only_loss": not value},
        "neat_packing": _if_true("packing", True),
        "pure_bf16": _if_true("master_dtype", "bfloat16"),
    },
    left_out={
        "stage": "the file's name says it",
        "do_train": "a stage always trains",
        "do_eval": "no rows are held out (val_size)",
        "template": "a template of LLaMA-Factory's; the model's own is taken",
        "dataset_dir": "rows are named by their files",
        "max_samples": "weight takes a share of a source's rows",
        "overwrite_cache": "prepared rows are made anew where rows or keys changed",
        "tokenized_path": "prepared rows lie in the run's folder",
        "plot_loss": "apo-soup report draws it",
        "resume_from_checkpoint": _ITSELF,
        "val_size": "no rows are held out",
        "deepspeed": _LAUNCH,
        "finetuning_type": "all weights are trained",
        "output_dir": "the recipe's name says it",
        "swanlab": _TRACKER,
        "eval_": "no rows are held out (val_size)",
        "pref_loss": "not a loss of preference training here",
    },
)


def _listed(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _loaded_in(value: Any) -> _Ours:
    return {"bfloat16": {"bf16": True}, "float16": {"bf16": False, "fp16": True}, "float32": {"bf16": False}}.get(
        str(value), {}
    )


def _modules(value: Any) -> _Ours:
    return {"lora_target_modules": "all-linear" if value in ("all-linear", ["all-linear"]) else value}


TUNERS = ("tuner_type", "train_type", "sft_type")
_LOSS_PLACES = {"default": True, "all": False}

MS_SWIFT = ForeignKeys(
    "ms-swift",
    "model",
    renamed={
        "lora_rank": "lora_r",
        "warmup_ratio": "warmup_steps",
        "modules_to_save": "lora_modules_to_save",
        "target_parameters": "lora_target_parameters",
        "bnb_4bit_use_double_quant": "use_bnb_nested_quant",
    },
    values={
        **dict.fromkeys(TUNERS, lambda value: {"use_peft": True} if value == "lora" else {}),
        "target_modules": _modules,
        "quant_bits": _quantised,
        "torch_dtype": _loaded_in,
        "attn_impl": lambda value: _attention("flash_attention_2" if value == "flash_attn" else value),
        "truncation_strategy": lambda value: (
            {"overflow": {"delete": "drop", "right": "truncate", "split": "split"}[value]}
            if value in ("delete", "right", "split")
            else {}
        ),
        "packing_strategy": lambda value: {"packing_strategy": "bfd"} if value == "binpack" else {},
        "loss_scale": lambda value: (
            {"assistant_only_loss": _LOSS_PLACES[value]} if isinstance(value, str) and value in _LOSS_PLACES else {}
        ),
        "new_special_tokens": lambda value: (
            {"add_special_tokens": value, "resize_embeddings": True}
            if not any(str(token).endswith(".txt") for token in (value if isinstance(value, list) else [value]))
            else {}
        ),
    },
    left_out={
        "rlhf_type": "the file's name says it",
        **dict.fromkeys(TUNERS, "an adapter is lora here; with another value all weights are trained"),
        "model_type": "transformers finds it by config.json",
        "task_type": "a model that writes text is trained here",
        "template": "a template of ms-swift's; the model's own is taken",
        "use_chat_template": "rows of texts are trained as texts",
        "agent_template": "the chat template tells how tools are called",
        "system": "a system turn stands in the rows",
        "loss_scale": "every assistant turn is trained, all its tokens alike",
        "truncation_strategy": "a text is cut at its end, dropped or split",
        "val_dataset": "held-out rows are split off: dataset_mixture.test_split_size",
        "split_dataset_ratio": "no rows are held out",
        "cached_": "prepared rows lie in the run's folder",
        "load_from_cache_file": "prepared rows are made anew where rows or keys changed",
        "lazy_tokenize": "rows come prepared",
        "streaming": "rows come prepared",
        "packing_strategy": "in one pass over the rows in their order no sequence would be full",
        "packing_length": "a sequence is max_length long",
        "packing_num_proc": _SPEED,
        "padding_free": "rows are packed, or padded to the longest of their batch",
        "dataset_shuffle": "rows are always shuffled, with dataset_mixture.seed",
        "custom_dataset_info": "rows are named by their files",
        "download_mode": "rows of the Hub are read at their commit",
        "disable_auto_column_mapping": "rename says what columns are",
        "model_name": "write the name into the rows, in place of {{NAME}}",
        "model_author": "write the name into the rows, in place of {{AUTHOR}}",
        "new_special_tokens": "write the tokens themselves, not a file of them",
        "adapters": "name the adapter's folder as the model, with use_peft: true",
        "ref_": "the reference is the model that training begins with",
        "rpo_alpha": "it is of preference training",
        "quant_method": "bitsandbytes does it: load_in_4bit or load_in_8bit",
        "resume_from_checkpoint": _ITSELF,
        "resume_only_model": _ITSELF,
        "output_dir": "the recipe's name says it",
        "add_version": "the recipe's name says it",
        "create_checkpoint_symlink": "a finished stage has one folder",
        "use_hf": "ids are the Hub's of Hugging Face",
        "deepspeed": _LAUNCH,
        "fsdp": _LAUNCH,
        "zero_": _LAUNCH,
        "ddp_": _LAUNCH,
        "NPROC_PER_NODE": _LAUNCH,
        "NNODES": _LAUNCH,
        "device_map": _LAUNCH,
        "sequence_parallel_size": _LAUNCH,
        "context_parallel_size": _LAUNCH,
        "expert_parallel_size": _LAUNCH,
        "use_ray": _LAUNCH,
        "device_groups": _LAUNCH,
        "swanlab": _TRACKER,
        "freeze_": "all weights are trained, or an adapter",
        "vit_": "images and sounds are not trained here",
        "max_pixels": "images and sounds are not trained here",
        "eval_": "no rows are held out (split_dataset_ratio)",
    },
)
