"""The keys of TRL and transformers as stage files take them: types and bounds for what their source declares.

What the libraries do not say of their keys, such as bounds and whether a key only concerns looks, is said in one table.
"""

from collections.abc import Callable
from dataclasses import dataclass
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


def _steps(value: int) -> int:
    if value < 1 and value != -1:
        raise ValueError("not a number of steps")
    return value


NumberFromZero = Annotated[float, Ge(0), FINITE, AS_NUMBER]
Decay = Annotated[float, Ge(0), Lt(1), FINITE, AS_NUMBER]


@dataclass(frozen=True)
class Addition:
    """What a library does not say of a key of its own: a type that is narrower than its annotation, and marks as `key`
    takes them.
    """

    kind: Any = None
    cosmetic: bool = False
    adapter: bool = False
    four_bit: bool = False
    main: bool = False
    refused: tuple[str, str] | None = None


# Where a library's key has an addition, it stands here; what a stage file declares itself has it there.
ADDITIONS = {
    # The run.
    "num_train_epochs": Addition(AboveZero, main=True),
    "max_steps": Addition(
        Annotated[
            Whole,
            AfterValidator(_steps),
            Said("a whole number of 1 or more, or -1 for num_train_epochs", "write -1 to train for num_train_epochs"),
        ],
        main=True,
    ),
    "lr_scheduler_type": Addition(main=True),
    "weight_decay": Addition(NumberFromZero),
    "max_grad_norm": Addition(NumberFromZero, main=True),
    "warmup_steps": Addition(NumberFromZero),
    "adam_beta1": Addition(Decay),
    "adam_beta2": Addition(Decay),
    "adam_epsilon": Addition(NumberFromZero),
    "label_smoothing_factor": Addition(Share),
    "neftune_noise_alpha": Addition(NumberFromZero | None),
    "precompute_ref_batch_size": Addition(Positive | None),
    "torch_empty_cache_steps": Addition(Positive | None),
    "data_seed": Addition(Seed | None),
    # Rows come prepared; the samplers that look at their lengths cannot run on them.
    "train_sampling_strategy": Addition(Literal["random", "sequential"]),
    # transformers' own annotation is the text that its command line takes; it asks for true.
    "fsdp": Addition(Flag | list[Text] | Text | None),
    "router_aux_loss_coef": Addition(NumberFromZero | None),
    "dataloader_num_workers": Addition(NotNegative, cosmetic=True),
    "dataloader_prefetch_factor": Addition(Positive | None),
    "ddp_bucket_cap_mb": Addition(Positive | None),
    "ddp_timeout": Addition(Positive, cosmetic=True),
    # Preference losses.
    "label_smoothing": Addition(Share),
    "discopop_tau": Addition(AboveZero),
    "ld_alpha": Addition(Share | None),
    "ref_model_mixup_alpha": Addition(Share),
    "ref_model_sync_steps": Addition(Positive),
    # What is logged, kept, measured and sent.
    "run_name": Addition(cosmetic=True),
    "log_level": Addition(cosmetic=True),
    "log_level_replica": Addition(cosmetic=True),
    "logging_steps": Addition(NumberFromZero, cosmetic=True),
    "logging_strategy": Addition(cosmetic=True),
    "logging_first_step": Addition(cosmetic=True),
    "disable_tqdm": Addition(cosmetic=True),
    "save_steps": Addition(NumberFromZero, cosmetic=True),
    "save_strategy": Addition(cosmetic=True),
    # transformers takes 0 and less for no limit, and they read like the opposite.
    "save_total_limit": Addition(Positive | None, cosmetic=True),
    "local_rank": Addition(Annotated[Whole, Ge(-1)]),
    "save_only_model": Addition(cosmetic=True),
    "do_eval": Addition(cosmetic=True),
    "eval_strategy": Addition(cosmetic=True),
    "eval_steps": Addition(NumberFromZero | None, cosmetic=True),
    "eval_delay": Addition(NumberFromZero, cosmetic=True),
    "eval_on_start": Addition(cosmetic=True),
    "eval_accumulation_steps": Addition(Positive | None, cosmetic=True),
    "per_device_eval_batch_size": Addition(Positive, cosmetic=True),
    "hub_strategy": Addition(cosmetic=True),
    "hub_always_push": Addition(cosmetic=True),
    "hub_revision": Addition(cosmetic=True),
    # Adapters and the base below them.
    "lora_r": Addition(Positive, adapter=True),
    "lora_alpha": Addition(Positive, adapter=True),
    "lora_dropout": Addition(Decay, adapter=True),
    "lora_task_type": Addition(Literal["CAUSAL_LM"], adapter=True),
    "use_rslora": Addition(adapter=True),
    "use_dora": Addition(adapter=True),
    "bnb_4bit_quant_type": Addition(four_bit=True),
    "use_bnb_nested_quant": Addition(four_bit=True),
    "bnb_4bit_quant_storage": Addition(four_bit=True),
    # What this pipeline cannot honour.
    "chat_template_path": Addition(refused=("chat_template says it", "write chat_template with the file's path")),
    "dataset_text_field": Addition(
        refused=("rows are conversations", "give rows with messages, or with prompt and completion")
    ),
    "resume_from_checkpoint": Addition(
        refused=("a stage goes on from its last checkpoint by itself", "leave the key out")
    ),
    "truncation_mode": Addition(refused=("documents are cut at their end", "leave the key out")),
    "pad_token": Addition(refused=("it is the tokenizer's own", "leave the key out")),
    "eval_packing": Addition(refused=("held-out rows are packed as the others are", "leave the key out")),
    "pad_to_multiple_of": Addition(refused=("rows are padded to the longest of their batch", "leave the key out")),
    "shuffle_dataset": Addition(refused=("rows are always shuffled with dataset_mixture.seed", "leave the key out")),
}
NO_ADDITION = Addition()
ATOMS: dict[str, Any] = {
    "bool": Flag, "int": Whole, "float": Number, "dict": Table, "dict[str, Any]": Table, "dict[str, bool]": Table,
    "list": Anything, "list[str]": Texts, "Literal[False]": Literal[False],
}  # fmt: skip
# Text last: it takes numbers too, which are numbers where one may stand.
ORDER = ("bool", "int", "float", "dict", "list", "Literal")
PLAIN_TYPES = {"bool", "int", "float", "dict", "str"}


M = TypeVar("M", bound=BaseModel)


def with_library_keys(*class_names: str) -> Callable[[type[M]], type[M]]:
    """Class decorator: a stage file with the keys of the named classes that it does not declare itself.

    Raises:
        UserError: a package is not installed.
    """

    def extended(model: type[M]) -> type[M]:
        added: dict[str, Any] = {}
        for class_name in class_names:
            for name, declared in keys_of(class_name).items():
                if name not in model.model_fields:
                    added.setdefault(name, field_of(declared, loading=class_name == "ModelConfig"))
        return create_model(model.__name__, __base__=model, __doc__=model.__doc__, __module__=model.__module__, **added)

    return extended


def field_of(declared: LibraryKey, loading: bool = False) -> tuple[Any, Any]:
    """A key of a library as pydantic takes it. A default that is no plain value is the library's own business.

    Args:
        loading: whether it belongs to the keys of the model; those of an adapter decide nothing of the model below it.

    Raises:
        UserError: transformers is not installed.
    """
    default = None if declared.default is NO_DEFAULT else declared.default
    added = ADDITIONS.get(declared.name, NO_ADDITION)
    kind = added.kind or type_of(declared.annotation, declared.choices)
    field = key(
        default,
        declared.help,
        cosmetic=added.cosmetic,
        loading=loading and not added.adapter,
        adapter=added.adapter,
        four_bit=added.four_bit,
        main=added.main,
        refused=added.refused,
    )
    return kind, field


def type_of(annotation: str, choices: tuple[str, ...] = ()) -> Any:
    """The type of a key whose annotation is written so in the library's source.

    An enumeration is taken as one of its words, as the libraries take it, and where no plain type stands beside it null
    is none.

    Raises:
        UserError: transformers is not installed.
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
