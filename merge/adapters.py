"""LoRA adapters as whole models, for as long as a merge needs them."""

from pathlib import Path

from apo_soup.config.mergekit import MergekitKeys
from apo_soup.errors import told_by_library
from apo_soup.hashing import hash_value
from merge.adapter_checks import check_all_loaded
from merge.mergekit_names import with_models


def with_whole_models(config: MergekitKeys, folder: Path, where: str) -> MergekitKeys:
    """A mergekit configuration in which every `base+adapter` is a folder that holds the two merged, below `folder`.

    Raises:
        UserError: peft or transformers refuse the adapter or its base, in their words.
    """
    return with_models(config, lambda model: _merged_adapter(model, folder, where) if is_adapted(model) else model)


def is_adapted(model: str) -> bool:
    """Whether a model is named as `base+adapter`."""
    return "+" in model and not Path(model).exists()


def _merged_adapter(model: str, folder: Path, where: str) -> str:
    """The folder of a base with its adapter merged into it by peft, written now if it is not there yet."""
    base, _, adapter = model.partition("+")
    # Named by both: two runs' adapters may end in the same two names, and one adapter may lie on two bases.
    target = folder / hash_value([base, adapter])[:16]
    if not (target / "config.json").is_file():
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from apo_soup.models.adapted import untied

        own = adapter if (Path(adapter) / "tokenizer_config.json").is_file() else base
        taken = f"an adapter that peft merges into its base, {model}"
        with told_by_library(where, (ValueError, OSError, RuntimeError), expected=taken, way="train or fetch it again"):
            whole = PeftModel.from_pretrained(
                AutoModelForCausalLM.from_pretrained(base, dtype="auto", trust_remote_code=False), adapter
            )
        check_all_loaded(whole, Path(adapter), where)
        with told_by_library(where, (ValueError, OSError, RuntimeError), expected=taken, way="train or fetch it again"):
            untied(whole).merge_and_unload().save_pretrained(target)
            AutoTokenizer.from_pretrained(own, trust_remote_code=False).save_pretrained(target)
    return str(target)
