"""Keys of adapters and of a quantised base: what they say together, told before torch is imported.

TRL passes over most of these without a word where `use_peft` is not there, and refuses the rest when the rows are
tokenised and the model is loaded.
"""

import importlib.util
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from apo_soup.config.in_words import as_written
from apo_soup.config.stage_file import Fault, Remark

if TYPE_CHECKING:
    from apo_soup.config.training import TrainingFile

# What peft knows by this name: every linear layer but the head.
ALL_LINEAR = "all-linear"
# Names that models of transformers have for their head, which TRL's fused loss reads past an adapter.
HEAD_NAMES = ("lm_head", "embed_out")
EXAMPLE = r".*\.layers\..*_proj"
# A name of a module; any other text is a pattern of whole paths, or peft's word for all linear layers.
MODULE_NAME = re.compile(r"[\w.]+")


def lora_targets(recipe: "TrainingFile") -> list[str] | str | None:
    """The layers that an adapter changes, as peft takes them: names, one pattern or word, or None where only
    parameters are named. Without any, all linear layers.

    A list with one entry stays a list where it holds a name: as a text peft would take it for a pattern.
    """
    targets = recipe.lora_target_modules
    if not targets:
        return None if recipe.lora_target_parameters else ALL_LINEAR
    return targets[0] if len(targets) == 1 and not MODULE_NAME.fullmatch(targets[0]) else targets


def adapter_faults(recipe: "TrainingFile") -> Iterator[Fault]:
    """What is wrong with a training file's keys of adapters and quantisation."""
    if not recipe.gives("use_peft"):
        for name in _adapter_keys(recipe):
            told = "expected use_peft: true beside it, without which all weights are trained and no adapter, got "
            yield Fault(name, f"{told}none; write it, or leave the key out", ("use_peft",))
    for name, asked in (("load_in_4bit", recipe.load_in_4bit), ("load_in_8bit", recipe.load_in_8bit)):
        if asked and not recipe.use_peft:
            told = "expected use_peft: true beside it, for weights of few bits cannot be trained, got none; write it"
            yield Fault(name, f"{told}, or leave the key out", ("use_peft",))
    if recipe.load_in_4bit and recipe.load_in_8bit:
        told = "expected one of load_in_4bit and load_in_8bit, got both; keep one"
        yield Fault("load_in_8bit", told, ("load_in_4bit",))
    for name in recipe.given_with("four_bit"):
        # Recipes write TRL's own value down beside eight bits, where it says nothing.
        if recipe.differs(name) and not recipe.load_in_4bit:
            told = "expected load_in_4bit: true beside it, got none; write it, or leave the key out"
            yield Fault(name, told, ("load_in_4bit",))
    if recipe.use_peft:
        yield from _target_faults(recipe)
    if recipe.lora_target_parameters and recipe.lora_dropout:
        told = f"expected lora_dropout: 0 beside it, which peft cannot do to parameters, got {recipe.lora_dropout}"
        yield Fault("lora_target_parameters", f"{told}; write it", ("lora_dropout",))


def _adapter_keys(recipe: "TrainingFile") -> list[str]:
    """The given keys that only an adapter reads, and that ask for something."""
    return [name for name, value in recipe.given_with("adapter").items() if value is not False]


def missing_package(recipe: "TrainingFile") -> str | None:
    """A sentence where a file asks for a quantised base and bitsandbytes is not installed here."""
    asked = "load_in_4bit" if recipe.load_in_4bit else "load_in_8bit" if recipe.load_in_8bit else None
    if asked is None or importlib.util.find_spec("bitsandbytes"):
        return None
    told = "expected the package bitsandbytes, which quantises the base, got none installed here"
    return f"{recipe.place(asked)}: {told}; run pip install 'apo-soup[qlora]'"


def _target_faults(recipe: "TrainingFile") -> Iterator[Fault]:
    targets = lora_targets(recipe)
    listed = targets if isinstance(targets, list) else []
    way = "leave it out, or train the whole head with lora_modules_to_save"
    for number, name in enumerate(listed):
        if name == ALL_LINEAR:
            told = f"expected {ALL_LINEAR} alone, got it beside other layers; keep one of the two"
            yield Fault(f"lora_target_modules.{number}", told)
        elif name.rpartition(".")[2] in HEAD_NAMES:
            told = f"expected layers below the head, got {name}: the loss reads the head's own weight, so that an "
            yield Fault(f"lora_target_modules.{number}", f"{told}adapter on it would never be trained; {way}")
        elif name in listed[:number]:
            yield Fault(f"lora_target_modules.{number}", f"expected every layer once, got {name} again; list it once")
    if isinstance(targets, str) and targets != ALL_LINEAR:
        try:
            matched = next((head for head in HEAD_NAMES if re.fullmatch(targets, head)), None)
        except re.error as error:
            told = f"expected names of layers, or a pattern of them, got {as_written(targets)}: {error}; correct it"
            yield Fault("lora_target_modules", told)
            return
        if matched:
            told = f"expected layers below the head, got a pattern that {matched} matches: the loss reads the head's "
            told += rf"own weight, so that an adapter on it would never be trained; narrow it, as {EXAMPLE} does"
            yield Fault("lora_target_modules", told)


def adapter_remarks(recipe: "TrainingFile") -> Iterator[Remark]:
    """What a person should know of a training file's adapter before it is trained."""
    earlier = recipe.model_name_or_path.rstrip("/").endswith("/adapter")  # goes on with its own layers
    if recipe.use_peft and not earlier and lora_targets(recipe) == ALL_LINEAR and not recipe.lora_target_modules:
        told = "no lora_target_modules is given, so all linear layers are adapted but the head (all-linear)"
        yield Remark("use_peft", told)
    if recipe.gives("use_peft") and not recipe.use_peft:
        names = _adapter_keys(recipe)
        if names:
            yield Remark("use_peft", f"no adapter, so all weights are trained and {', '.join(names)} not read")
