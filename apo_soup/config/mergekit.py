"""mergekit's own keys inside a merge file: those that a merge here looks at are declared, all others go to mergekit."""

import re
from collections.abc import Iterator
from typing import Annotated, Any

from annotated_types import MinLen
from pydantic import AfterValidator, ConfigDict, ModelWrapValidatorHandler, PrivateAttr, model_validator

from apo_soup.config.file_names import file_name_fault
from apo_soup.config.in_words import as_written
from apo_soup.config.keys import Flag, Said, Table, Text, key
from apo_soup.config.merge_methods import merge_faults, with_numbers
from apo_soup.config.stage_file import Fault, OpenKeys

FLOAT_TYPES = ("float64", "float32", "float16", "bfloat16")
# What torch calls devices.
DEVICE = re.compile(r"auto|(cpu|cuda|hpu|mlu|mps|musa|npu|xpu)(:\d+)?")
# Options of mergekit's that are decided here: name -> why.
OWN_OPTIONS = {
    "safe_serialization": "weights are always safetensors",
    "write_model_card": "the card is written with the line of parents",
    "quiet": "progress is told by this program",
    "verbosity": "progress is told by this program",
    "lora_merge_dtype": "adapters are merged by peft before the average",
    "lora_merge_cache": "adapters are merged by peft before the average",
    "allow_crimes": "models of different architectures are refused first",
    "unsafe_truncate_embeddings": "models with different vocabularies need tokenizer_source",
}


def plain_float(name: str) -> str:
    """The name of a floating-point type without `torch.`."""
    return name.removeprefix("torch.")


def _float_name(value: str) -> str:
    if plain_float(value) not in FLOAT_TYPES:
        raise ValueError("no type of floating-point numbers")
    return value


# Kept as it is written: it is part of a merge's fingerprint.
FloatName = Annotated[Text, AfterValidator(_float_name), Said(f"one of {', '.join(FLOAT_TYPES)}", "write one of these")]
# mergekit takes a model's name, or its parts as a mapping. Python remembers one order of a union, so it is the order
# that the same union has in other files.
ModelName = Annotated[Table, MinLen(1)] | Text


class MergekitParameters(OpenKeys):
    """Parameters of a merge method, of one model or of all. Values are numbers, or mergekit's lists over layers and
    mappings by tensor.
    """

    weight: Any = key(None, "share of a model in the merge")
    normalize: Any = key(None, "divide by the sum of the weights")


class MergekitModel(OpenKeys):
    """One model of a merge."""

    # `merge_faults` tells of other keys where they belong; editors mark them.
    model_config = ConfigDict(json_schema_extra={"additionalProperties": False})

    model: ModelName = key(meaning="a stage of the run, a folder, or an id of the Hub")
    parameters: MergekitParameters | None = key(None, "parameters of this model, such as `{weight: 0.9}`")


class MergekitKeys(OpenKeys):
    """A merge in mergekit's own schema."""

    merge_method: Annotated[Text, MinLen(1), Said("a method of mergekit's, such as SmolLM3's linear")] = key(
        meaning="method of mergekit's; SmolLM3's is `linear`", main=True
    )
    models: list[MergekitModel] | None = key(None, "the models, with `model` and `parameters` each")
    parameters: MergekitParameters | None = key(None, "parameters of all models")
    slices: list[Any] | None = key(None, "layers of models, one after another")
    modules: Any = key(None, "slices of the parts of a model that has several")
    base_model: ModelName | None = key(None, "model that the method starts from")
    dtype: FloatName | None = key(None, "type that sums are taken in")
    out_dtype: FloatName | None = key(None, "type that weights are written in")
    tokenizer_source: Any = key(None, "model whose tokenizer the merge has, `union` or `base`")
    tokenizer: Any = key(None, "the merge's tokenizer, in mergekit's own words")
    chat_template: Text | None = key(None, "Jinja text, `auto`, or a template of mergekit's")

    _order: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="wrap")
    @classmethod
    def _keep_order(cls, given: Any, check: ModelWrapValidatorHandler["MergekitKeys"]) -> "MergekitKeys":
        made = check(with_numbers(given))
        made._order = tuple(given) if isinstance(given, dict) else ()
        return made

    def given_values(self) -> dict[str, Any]:
        """As `Keys.given_values`, in the order of the file: it is that of a merge's models among a stage's inputs."""
        values = super().given_values()
        return {name: values[name] for name in (*self._order, *values) if name in values}

    def faults(self) -> Iterator[Fault]:
        yield from merge_faults(self.given_values())
        named = [entry.model for entry in self.models or []]
        for number, model in enumerate(named):
            if model in named[:number]:
                told = f"expected every model once, got {as_written(model)} again; name it once, with its whole weight"
                yield Fault(f"models.{number}", told)
        places = [
            *((f"models.{number}.model", model) for number, model in enumerate(named)),
            ("base_model", self.base_model),
        ]
        for name, place in places:
            if place == "merged":
                yield Fault(name, "expected a model that is there before, got merged, which the merge makes; name soup")
            fault = file_name_fault(place) if isinstance(place, str) else None
            if fault:
                yield Fault(name, fault)

    @property
    def names_tokens(self) -> bool:
        """Whether the file says which tokens the merge has."""
        return bool(self.tokenizer or self.tokenizer_source)

    @property
    def own_tokenizer_key(self) -> str | None:
        """The key that gives the merge another tokenizer or template than its first model's; None where none does."""
        given = {
            "tokenizer": self.tokenizer, "tokenizer_source": self.tokenizer_source, "chat_template": self.chat_template
        }  # fmt: skip
        return next((name for name, value in given.items() if value), None)


class MergekitOptions(OpenKeys):
    """mergekit's options."""

    device: Text | None = key(None, "device that tensors are merged on")
    cuda: Flag = key(False, "merge on a GPU")
    multi_gpu: Flag = key(False, "merge on several GPUs")
    low_cpu_memory: Flag = key(False, "keep tensors on the GPU")
    read_to_gpu: Flag = key(False, "read tensors to the GPU")
    gpu_rich: Flag = key(False, "all of these for a machine with several GPUs")
    trust_remote_code: Flag = key(False, "run code that comes with the models")

    @property
    def concerns_mergekit(self) -> bool:
        """Whether an option is given that only mergekit can follow; trust in a model's own code changes no merge."""
        return bool(self.model_fields_set - {"trust_remote_code"})

    def asks_for_gpu(self) -> str | None:
        """The key that asks for a GPU, or None."""
        flags = {
            "cuda": self.cuda, "multi_gpu": self.multi_gpu, "low_cpu_memory": self.low_cpu_memory,
            "read_to_gpu": self.read_to_gpu, "gpu_rich": self.gpu_rich,
            "device": (self.device or "").startswith("cuda"),
        }  # fmt: skip
        return next((name for name, asks in flags.items() if asks), None)

    def faults(self) -> Iterator[Fault]:
        if self.device and not DEVICE.fullmatch(self.device):
            told = f"expected auto, cpu, or an accelerator such as cuda or cuda:1, got {as_written(self.device)}"
            yield Fault("device", f"{told}; correct it")
        for name, value in (self.model_extra or {}).items():
            if name in OWN_OPTIONS:
                why = OWN_OPTIONS[name]
                yield Fault(name, f"expected no such option, since {why}, got {as_written(value)}; remove it")
