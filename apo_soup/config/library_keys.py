"""The keys of TRL and transformers as stage files take them: types and bounds for what their source declares.

What the libraries do not say of their keys, bounds and whether a key only concerns looks, is said here, once.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar, Union

from annotated_types import Ge, Lt
from pydantic import AfterValidator, BaseModel, BeforeValidator, create_model

from apo_soup.config.keys import (
    AS_NUMBER,
    FINITE,
    AboveZero,
    Anything,
    Flag,
    NotNegative,
    Number,
    Positive,
    Said,
    Seed,
    Share,
    Table,
    Text,
    Texts,
    Whole,
    as_word,
    key,
)
from apo_soup.config.library_source import NO_DEFAULT, LibraryKey, enumerations, keys_of

# Keys that change what is printed, logged, kept or sent, not what is learned.
COSMETIC = frozenset(
    """
    run_name log_level log_level_replica logging_dir logging_steps logging_strategy logging_first_step disable_tqdm
    hub_strategy hub_always_push hub_revision save_steps save_strategy save_total_limit eval_strategy eval_steps
    eval_delay eval_on_start eval_accumulation_steps per_device_eval_batch_size do_eval save_only_model
    dataloader_num_workers ddp_timeout
    """.split()
)


def _steps(value: int) -> int:
    if value < 1 and value != -1:
        raise ValueError("not a number of steps")
    return value


NumberFromZero = Annotated[float, Ge(0), FINITE, AS_NUMBER]
Decay = Annotated[float, Ge(0), Lt(1), FINITE, AS_NUMBER]
# Types that are narrower than the library's annotation.
NARROWED: dict[str, Any] = {
    "per_device_eval_batch_size": Positive,
    "num_train_epochs": AboveZero,
    "max_steps": Annotated[
        Whole,
        AfterValidator(_steps),
        Said("a whole number of 1 or more, or -1 for num_train_epochs", "write -1 to train for num_train_epochs"),
    ],
    "weight_decay": NumberFromZero,
    "max_grad_norm": NumberFromZero,
    "warmup_steps": NumberFromZero,
    "adam_beta1": Decay,
    "adam_beta2": Decay,
    "adam_epsilon": NumberFromZero,
    "label_smoothing_factor": Share,
    "neftune_noise_alpha": NumberFromZero | None,
    "lora_r": Positive,
    "lora_alpha": Positive,
    "lora_dropout": Decay,
    "logging_steps": NumberFromZero,
    "save_steps": NumberFromZero,
    "eval_steps": NumberFromZero | None,
    "eval_delay": NumberFromZero,
    "eval_accumulation_steps": Positive | None,
    "precompute_ref_batch_size": Positive | None,
    "torch_empty_cache_steps": Positive | None,
    "ddp_timeout": Positive,
    "dataloader_num_workers": NotNegative,
    "data_seed": Seed | None,
    # Rows come prepared; the samplers that look at their lengths cannot run on them.
    "train_sampling_strategy": Literal["random", "sequential"],
}
ATOMS: dict[str, Any] = {
    "bool": Flag, "int": Whole, "float": Number, "dict": Table, "dict[str, Any]": Table, "dict[str, bool]": Table,
    "list": Anything, "list[str]": Texts, "Literal[False]": Literal[False],
}  # fmt: skip
# Text last: it takes numbers too, which are numbers where one may stand.
ORDER = ("bool", "int", "float", "dict", "list", "Literal")
PLAIN_TYPES = {"bool", "int", "float", "dict", "str"}


M = TypeVar("M", bound=BaseModel)


def with_library_keys(*class_names: str) -> Callable[[type[M]], type[M]]:
    """Class decorator: a stage file with the keys of the named classes that it does not declare itself."""

    def extended(model: type[M]) -> type[M]:
        added: dict[str, Any] = {}
        for class_name in class_names:
            for name, declared in keys_of(class_name).items():
                if name not in model.model_fields:
                    added.setdefault(name, field_of(declared))
        return create_model(model.__name__, __base__=model, __doc__=model.__doc__, __module__=model.__module__, **added)

    return extended


def field_of(declared: LibraryKey) -> tuple[Any, Any]:
    """A key of a library as pydantic takes it. A default that is no plain value is the library's own business."""
    name = declared.name
    default = None if declared.default is NO_DEFAULT else declared.default
    kind = NARROWED.get(name) or type_of(declared.annotation, declared.choices)
    return kind, key(default, declared.help, cosmetic=name in COSMETIC)


def type_of(annotation: str, choices: tuple[str, ...] = ()) -> Any:
    """The type of a key whose annotation is written so in the library's source.

    An enumeration is taken as one of its words, as the libraries take it, and where no plain type stands beside it null
    is none.
    """
    options = split_union(annotation)
    known = enumerations()
    words = next((known[option] for option in options if option in known), ())
    members: list[Any]
    if choices:
        word: Any = Literal[tuple(choices)]
        members = [list[word] if any(o.startswith("list") for o in options) else word]
    elif words:
        members = [Annotated[Literal[words], BeforeValidator(as_word)]]
    else:
        members = [_atom(option, options) for option in sorted(options, key=_rank) if option != "None"]
    if "None" in options or not PLAIN_TYPES & set(options):
        members.append(None)
    return Union[tuple(dict.fromkeys(members))]  # noqa: UP007 - the members are known at run time


def _atom(option: str, beside: list[str]) -> Any:
    if option.startswith("list"):
        if "str" in beside:  # one word stays one word
            return list[Text] if option == "list[str]" else list[Any]
        return ATOMS.get(option, Anything)
    return ATOMS.get(option, Text)


def _rank(option: str) -> int:
    return next((n for n, start in enumerate(ORDER) if option.startswith(start)), len(ORDER))


def split_union(annotation: str) -> list[str]:
    """`dict[str, Any] | None` as its members; bars inside brackets do not split."""
    parts, depth, current = [], 0, ""
    for character in annotation:
        depth += {"[": 1, "]": -1}.get(character, 0)
        if character == "|" and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += character
    return [*parts, current.strip()]
