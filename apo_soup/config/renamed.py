"""Keys and values of older releases and of alignment-handbook: each is mapped, with a line that says so."""

from apo_soup.config.given import Given
from apo_soup.config.in_words import as_written
from apo_soup.config.keys import is_finite

# name -> (new name or None, why)
RENAMED: dict[str, tuple[str | None, str]] = {
    "torch_dtype": ("dtype", "renamed in transformers 5"),
    "evaluation_strategy": ("eval_strategy", "renamed in transformers 4.46"),
    "max_seq_length": ("max_length", "renamed in TRL 0.20"),
    "warmup_ratio": ("warmup_steps", "transformers 5 takes a share below 1 as warmup_steps"),
    "no_cuda": ("use_cpu", "renamed in transformers 5"),
    "overwrite_output_dir": (None, "gone from transformers 5; a stage folder is always replaced as a whole"),
    "save_safetensors": (None, "gone from transformers 5; weights are always safetensors"),
    "group_by_length": (None, "gone from transformers 5; write train_sampling_strategy: group_by_length"),
    "max_prompt_length": (None, "gone from TRL 1.0; only max_length cuts a pair"),
    "hub_model_revision": ("hub_revision", "alignment-handbook's name of it"),
    "preprocessing_num_workers": ("dataset_num_proc", "alignment-handbook's earlier name of it"),
    "dataset_kwargs": (None, "set by the stage itself, which hands TRL prepared rows"),
}
# Keys that changed what is learnt, and that nothing reads any longer: what became of each, and what to write.
GONE = {
    "rpo_alpha": "TRL has no more; write loss_type: [sigmoid, sft] with loss_weights: [1.0, ALPHA], ALPHA its value",
}
# Names that other programs have for keys, which are not near them letter by letter.
MEANT = {
    "lr": "learning_rate", "epochs": "num_train_epochs", "num_epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size", "micro_batch_size": "per_device_train_batch_size",
    "max_len": "max_length", "sequence_len": "max_length", "cutoff_len": "max_length", "context_length": "max_length",
    "lora_rank": "lora_r", "rank": "lora_r", "grad_clip": "max_grad_norm", "optimizer": "optim",
    "lr_scheduler": "lr_scheduler_type", "model": "model_name_or_path", "base_model": "model_name_or_path",
}  # fmt: skip
RENAMED_IN_EVAL: dict[str, tuple[str | None, str]] = {
    "harness_engine": ("engine", "it runs the suite's own kinds too"),
}
RENAMED_VALUES = {
    ("packing_strategy", "ffd"): ("bfd", "first-fit decreasing was replaced by best-fit decreasing in TRL 0.20"),
    ("packing_strategy", "bfd-requeue"): ("bfd_split", "renamed in TRL 0.29"),
}


def map_renamed(given: Given, renamed: dict[str, tuple[str | None, str]], pairs: bool = False) -> list[str]:
    """Map keys and values of a file that newer releases renamed; each leaves one line in `given.notes`.

    Args:
        renamed: the keys, such as RENAMED for training files.
        pairs: the file is of preference training, where TRL ignores `padding_free`.

    Returns:
        A sentence for each key that is given under both its names.
    """
    values, problems = given.values, []
    for old, (new, why) in renamed.items():
        if old not in values:
            continue
        where, value = given.where(old), values.pop(old)
        if old == "warmup_ratio" and is_finite(value) and value >= 1:  # from 1 on the newer key is a number of steps
            told = f"expected a share of the steps below 1, got {as_written(value)}"
            problems.append(f"{where}: {old}: {told}; write warmup_steps: {value:g} for as many steps")
        elif new is None:
            given.notes.append(f"{where}: {old} is dropped ({why})")
        elif new in values:
            problems.append(f"{where}: {old}: expected one of {old} and {new}, its newer name, got both; keep {new}")
        else:
            values[new] = value
            if old in given.lines:
                given.lines[new] = given.lines[old]
            if old in given.overridden:
                given.overridden.add(new)
            given.notes.append(f"{where}: {old} is read as {new} ({why})")
    for (key, old), (now, why) in RENAMED_VALUES.items():
        if values.get(key) == old:
            values[key] = now
            given.notes.append(f"{given.place(key)}: {old} is read as {now} ({why})")
    if pairs and values.get("padding_free"):
        where = given.where("padding_free")
        values.pop("padding_free")
        given.notes.append(f"{where}: padding_free is dropped (TRL switched it off for preference training)")
    return problems
