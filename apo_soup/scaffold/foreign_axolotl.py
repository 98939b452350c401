"""What the keys of axolotl are here."""

from collections.abc import Callable
from typing import Any

from apo_soup.scaffold.foreign_keys import (
    ALONE,
    GOING_ON,
    ITSELF,
    LAUNCH,
    NOT_TEXT,
    OTHER_WAY,
    PARTS,
    SPEED,
    TRACKER,
    ForeignKeys,
    Ours,
    attention,
    if_true,
    shared_rows,
)


def _scheduler(value: Any) -> Ours:
    return {"lr_scheduler_type": value}


def _min_rate(value: Any) -> Ours:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        return {}
    return {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": value}}


def _bf16(value: Any) -> Ours:
    return {"bf16": value in ("auto", "full", True)}


def _adapter(value: Any) -> Ours:
    return {"use_peft": True, **({"load_in_4bit": True} if value == "qlora" else {})}


def _checkpointing(value: Any) -> Ours:
    return {"gradient_checkpointing": bool(value)}


def _tracked(key: str, tracker: str) -> Callable[[Any], Ours]:
    """A key that a tracker reads, and that asks for it."""
    return lambda value: {"report_to": tracker, key: value}


def _four_bits(value: Any) -> Ours:
    given = value if isinstance(value, dict) else {}
    ours = {"bnb_4bit_quant_type": "bnb_4bit_quant_type", "bnb_4bit_use_double_quant": "use_bnb_nested_quant"}
    return {ours[name]: given[name] for name in given if name in ours}


AXOLOTL = ForeignKeys(
    "axolotl",
    "base_model",
    "datasets",
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
        "wandb_name": "run_name",
    },
    values={
        "context_parallel_size": shared_rows,
        "sequence_parallel_degree": shared_rows,
        "lr_scheduler": _scheduler,
        "bf16": _bf16,
        "bfloat16": _bf16,
        "adapter": _adapter,
        "lora_target_linear": if_true("lora_target_modules", "all-linear"),
        "flash_attention": if_true("attn_implementation", "flash_attention_2"),
        "sdp_attention": if_true("attn_implementation", "sdpa"),
        "flex_attention": if_true("attn_implementation", "flex_attention"),
        "attn_implementation": attention,
        "gradient_checkpointing": _checkpointing,
        "cosine_min_lr_ratio": _min_rate,
        "train_on_inputs": lambda value: {"assistant_only_loss": not value},
        "bnb_config_kwargs": _four_bits,
        "wandb_project": _tracked("project", "wandb"),
        "tokens": lambda value: {"add_tokens": value, "resize_embeddings": True} if isinstance(value, list) else {},
        "excess_length_strategy": lambda value: {"overflow": value} if value in ("drop", "truncate") else {},
        "use_wandb": if_true("report_to", "wandb"),
        "use_tensorboard": if_true("report_to", "tensorboard"),
        "resize_token_embeddings_to_32x": lambda value: (
            {"resize_embeddings": True, "resize_embeddings_multiple_of": 32} if value else {}
        ),
    },
    left_out={
        "dataset_prepared_path": "prepared rows lie in the run's folder",
        "dataset_processes": SPEED,
        "model_type": "transformers finds it by config.json",
        "tokenizer_type": "transformers finds it by the tokenizer's files",
        "is_": "transformers finds it by config.json",
        "resume_from_checkpoint": ITSELF,
        "auto_resume": ITSELF,
        "pad_to_sequence_len": "rows are padded to the longest of their batch",
        "eval_sample_packing": "held-out rows are packed as the others are",
        "remove_unused_columns": "rows come prepared",
        "wandb": TRACKER,
        "trackio": TRACKER,
        "swanlab": TRACKER,
        "use_swanlab": TRACKER,
        "mlflow": TRACKER,
        "deepspeed": LAUNCH,
        "fsdp_config": LAUNCH,
        "fsdp": LAUNCH,
        "dp_": LAUNCH,
        "context_parallel": ALONE,
        "sequence_parallel_degree": ALONE,
        "tensor_parallel": LAUNCH,
        "expert_parallel": LAUNCH,
        "lora_mlp_kernel": SPEED,
        "lora_qkv_kernel": SPEED,
        "lora_o_kernel": SPEED,
        "xformers": SPEED,
        "flash_attn": SPEED,
        "attn_implementation": "not one of transformers' own; its default is taken",
        "plugins": "plugins are axolotl's own",
        "liger": "write use_liger_kernel: true where liger-kernel is installed",
        "cut_cross_entropy": SPEED,
        "use_kernels": SPEED,
        "activation_offloading": SPEED,
        "cosine_min_lr_ratio": "expected a share of the learning rate",
        "chat_template": "a template of axolotl's; the model's own is taken",
        "eot_tokens": "the template tells where a turn ends",
        "processor_type": NOT_TEXT,
        "skip_prepare_dataset": NOT_TEXT,
        "freeze_mm_modules": NOT_TEXT,
        "image_": NOT_TEXT,
        "strict": "every key is checked here",
        "shuffle_merged_datasets": "rows are always shuffled, with dataset_mixture.seed",
        "group_by_length": "rows are packed, or drawn at random",
        "loss_watchdog": "a loss that is not finite ends a run, and a spike is told",
        "early_stopping": "not done here; load_best_model_at_end keeps the best checkpoint",
        "tokens": "the tokenizer's own are taken",
        "lora_model_dir": GOING_ON,
        "unfrozen_parameters": PARTS,
        "test_datasets": "held-out rows are split off: dataset_mixture.test_split_size",
        "sample_packing": "pairs are packed where packed_pairs does not forbid it",
        "batch_size": "it is no whole number of times micro_batch_size",
        "excess_length_strategy": "a text that is too long is cut (truncate) or dropped; none ends a run",
        "float16": "write fp16: true, which computes in half precision",
        "bnb_config_kwargs": "the other settings of bitsandbytes are not read here",
        "model_config": "the model is built as its folder says",
        "cls_model_config": "the model is built as its folder says",
        "tokenizer_": "the tokenizer is read as its folder says",
        "hf_use_auth_token": "hf auth login, or HF_TOKEN, opens models and rows that are not public",
        "use_ray": LAUNCH,
        "ray_": LAUNCH,
        "streaming": "rows come prepared",
        "quantize_moe_experts": SPEED,
        "experts_implementation": SPEED,
        "use_scattermoe": SPEED,
        "use_sonicmoe": SPEED,
        "tiled_mlp": SPEED,
        "fused_attn_kernel": SPEED,
        "flex_attn": SPEED,
        "low_cpu_mem_usage": SPEED,
        "lisa_": OTHER_WAY,
        "relora": OTHER_WAY,
        "jagged_restart": OTHER_WAY,
        "use_eaft": OTHER_WAY,
        "eaft_": OTHER_WAY,
        "qat": OTHER_WAY,
        "fp8": OTHER_WAY,
        "diffusion": OTHER_WAY,
        "use_onebitllms": OTHER_WAY,
        "reinit_weights": OTHER_WAY,
        "curriculum_sampling": OTHER_WAY,
        "dpo_use_weighting": OTHER_WAY,
        "dpo_padding_free": "pairs are packed where packed_pairs does not forbid it",
        "rpo_alpha": "write loss_type: [sigmoid, sft] with loss_weights: [1.0, the weight]",
        "evals_per_epoch": "no rows are held out (val_set_size)",
        "val_set_size": "no rows are held out",
        "train_on_inputs": "the default",
        "debug": "it concerns axolotl's own output",
    },
)
