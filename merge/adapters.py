"""LoRA adapters as whole models, for as long as a merge needs them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apo_soup.config.mergekit import MergekitKeys
from apo_soup.errors import UserError, told_by_library
from apo_soup.hashing import hash_value
from merge.adapter_checks import check_all_loaded, own_rows
from merge.mergekit_names import is_adapted, with_models
from merge.own_code import copy_own_code


def with_whole_models(config: MergekitKeys, folder: Path, where: str, trust_remote_code: bool = False) -> MergekitKeys:
    """A mergekit configuration in which every `base+adapter` is a folder that holds the two merged, below `folder`.

    Raises:
        UserError: peft or transformers refuse the adapter or its base, in their words, or the base comes with code of
            its own, and may not run it.
    """

    def whole(model: str) -> str:
        return _merged_adapter(model, folder, where, trust_remote_code) if is_adapted(model) else model

    return with_models(config, whole)


def _merged_adapter(model: str, folder: Path, where: str, trust_remote_code: bool) -> str:
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
            with _own_code_told(base, where):
                loaded = AutoModelForCausalLM.from_pretrained(base, dtype="auto", trust_remote_code=trust_remote_code)
                rows = own_rows(Path(adapter), where)
                embeddings: Any = loaded.get_input_embeddings()
                if rows and rows != len(embeddings.weight):
                    loaded.resize_token_embeddings(rows, mean_resizing=False)  # the adapter has values for all of them
            whole = PeftModel.from_pretrained(loaded, adapter)
        check_all_loaded(whole, Path(adapter), where)
        with told_by_library(where, (ValueError, OSError, RuntimeError), expected=taken, way="train or fetch it again"):
            untied(whole).merge_and_unload().save_pretrained(target)
            AutoTokenizer.from_pretrained(own, trust_remote_code=trust_remote_code).save_pretrained(target)
        copy_own_code(Path(base), target, where)
    return str(target)


@contextmanager
def _own_code_told(base: str, where: str) -> Iterator[None]:
    """Tell what to do about a base whose code was not allowed to run, which transformers tells in terms of its own."""
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise UserError(
            f"{where}: expected a base of transformers' own classes, got {base}, which comes with code of its own, and "
            "an adapter is merged by running it; name the whole model that the adapter was merged into (a stage's "
            "folder, above adapter/), or read that code and write options: {trust_remote_code: true}"
        ) from error
