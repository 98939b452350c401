"""What the keys of ms-swift are here."""

from typing import Any

from apo_soup.scaffold.foreign_keys import (
    ALONE,
    GOING_ON,
    ITSELF,
    LAUNCH,
    NOT_TEXT,
    OPTIMISER,
    OTHER_WAY,
    PARTS,
    REFERENCE_IS,
    SPEED,
    TRACKER,
    ForeignKeys,
    Ours,
    attention,
    if_true,
    quantised,
    shared_rows,
)


def _loaded_in(value: Any) -> Ours:
    return {"bfloat16": {"bf16": True}, "float16": {"bf16": False, "fp16": True}, "float32": {"bf16": False}}.get(
        str(value), {}
    )


def _modules(value: Any) -> Ours:
    return {"lora_target_modules": "all-linear" if value in ("all-linear", ["all-linear"]) else value}


TUNERS = ("tuner_type", "train_type", "sft_type")
_LOSS_PLACES = {"default": True, "all": False}

MS_SWIFT = ForeignKeys(
    "ms-swift",
    "model",
    "dataset",
    renamed={
        "lora_rank": "lora_r",
        "warmup_ratio": "warmup_steps",
        "modules_to_save": "lora_modules_to_save",
        "target_parameters": "lora_target_parameters",
        "bnb_4bit_use_double_quant": "use_bnb_nested_quant",
    },
    values={
        "sequence_parallel_size": shared_rows,
        "context_parallel_size": shared_rows,
        **dict.fromkeys(TUNERS, lambda value: {"use_peft": True} if value == "lora" else {}),
        "target_modules": _modules,
        "quant_bits": quantised,
        "torch_dtype": _loaded_in,
        "attn_impl": lambda value: attention("flash_attention_2" if value == "flash_attn" else value),
        "truncation_strategy": lambda value: (
            {"overflow": {"delete": "drop", "right": "truncate", "split": "split"}[value]}
            if value in ("delete", "right", "split")
            else {}
        ),
        "packing_strategy": lambda value: {"packing_strategy": "bfd"} if value == "binpack" else {},
        "loss_scale": lambda value: (
            {"assistant_only_loss": _LOSS_PLACES[value]} if isinstance(value, str) and value in _LOSS_PLACES else {}
        ),
        "enable_dft_loss": if_true("loss_type", "dft"),
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
        "packing_num_proc": SPEED,
        "packing": "pairs are packed where packed_pairs does not forbid it",
        "padding_free": "rows are packed, or padded to the longest of their batch",
        "dataset_shuffle": "rows are always shuffled, with dataset_mixture.seed",
        "custom_dataset_info": "rows are named by their files",
        "download_mode": "rows of the Hub are read at their commit",
        "disable_auto_column_mapping": "rename says what columns are",
        "model_name": "write the name into the rows, in place of {{NAME}}",
        "model_author": "write the name into the rows, in place of {{AUTHOR}}",
        "new_special_tokens": "write the tokens themselves, not a file of them",
        "adapters": GOING_ON,
        "ref_": REFERENCE_IS,
        "rpo_alpha": "it is of preference training",
        "quant_method": "bitsandbytes does it: load_in_4bit or load_in_8bit",
        "resume_from_checkpoint": ITSELF,
        "resume_only_model": ITSELF,
        "output_dir": "the recipe's name says it",
        "add_version": "the recipe's name says it",
        "create_checkpoint_symlink": "a finished stage has one folder",
        "use_hf": "ids are the Hub's of Hugging Face",
        "deepspeed": LAUNCH,
        "fsdp": LAUNCH,
        "zero_": LAUNCH,
        "ddp_": LAUNCH,
        "NPROC_PER_NODE": LAUNCH,
        "NNODES": LAUNCH,
        "device_map": LAUNCH,
        "sequence_parallel_size": ALONE,
        "context_parallel_size": ALONE,
        "expert_parallel_size": LAUNCH,
        "use_ray": LAUNCH,
        "device_groups": LAUNCH,
        "swanlab": TRACKER,
        "freeze_": PARTS,
        "vit_": NOT_TEXT,
        "aligner_": NOT_TEXT,
        "max_pixels": NOT_TEXT,
        "optimizer": OPTIMISER,
        "use_galore": OPTIMISER,
        "galore_": OPTIMISER,
        "init_weights": "an adapter begins as no change",
        "lora_ga_": "an adapter begins as no change",
        "reft_": OTHER_WAY,
        "llamapro_": OTHER_WAY,
        "lisa_": OTHER_WAY,
        "experts_impl": SPEED,
        "bnb_4bit_compute_dtype": "products are taken in dtype",
        "external_plugins": "plugins are ms-swift's own",
        "enable_thinking": "rows say it: chat_template_kwargs of a source",
        "add_non_thinking_prefix": "the chat template says it: chat_template_kwargs of a source",
        "rope_scaling": "the model is built as its folder says",
        "eval_": "no rows are held out (split_dataset_ratio)",
    },
)
