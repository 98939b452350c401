"""TRL's and transformers' keys are those of the installed release, and ours that share their name are theirs."""

import ast
import dataclasses
import inspect
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from pydantic import TypeAdapter, ValidationError

from apo_soup.config.keys import has_mark
from apo_soup.config.library_keys import ADDITIONS, field_of, type_of
from apo_soup.config.library_source import NO_DEFAULT, enumerations, keys_of
from apo_soup.config.load import file_model
from apo_soup.config.training import TrainingFile

CLASSES = ("SFTConfig", "DPOConfig", "ModelConfig")


@pytest.mark.parametrize("name", CLASSES)
def test_keys_read_from_source_are_those_of_the_installed_class(name):
    import trl

    fields = {f.name: f for f in dataclasses.fields(getattr(trl, name)) if f.init}
    found = keys_of(name)
    assert found.keys() == fields.keys()
    for key in found.values():
        if key.default is not NO_DEFAULT:
            assert key.default == fields[key.name].default, key.name


@pytest.mark.parametrize(("kind", "config"), [("sft", "SFTConfig"), ("apo", "DPOConfig")])
def test_a_key_that_a_file_declares_itself_has_the_librarys_default(kind, config):
    """The stages read these by attribute, so a default that differs would change what is trained."""
    import trl

    # Ours, or set by a stage; loss_type is a list here, one entry in TRL's.
    ours = {"output_dir", "model_name_or_path", "logging_nan_inf_filter"}
    model = file_model(kind)
    declared = set(model.__mro__[1].model_fields) - ours
    library = {f.name: f for c in (config, "ModelConfig") for f in dataclasses.fields(getattr(trl, c)) if f.init}
    for name in declared & library.keys():
        default = library[name].default
        if default is dataclasses.MISSING:
            default = library[name].default_factory()
        assert model.model_fields[name].default == default, name


def test_every_addition_is_to_a_key_of_a_library_that_no_file_declares_itself():
    added = {}
    for kind in ("sft", "apo"):
        model = file_model(kind)
        added |= {
            name: field for name, field in model.model_fields.items() if name not in model.__mro__[1].model_fields
        }
    assert ADDITIONS.keys() <= added.keys()
    for name, addition in ADDITIONS.items():
        for mark in ("cosmetic", "adapter", "four_bit", "refused"):
            assert has_mark(added[name], mark) == bool(getattr(addition, mark)), (name, mark)


def test_the_reference_depends_on_all_keys_of_the_model_but_those_that_leave_it_alone():
    """A key that a later TRL adds to its ModelConfig is one of them by itself."""
    model = file_model("apo")
    marked = {name for name, field in model.model_fields.items() if has_mark(field, "loading")}
    alone = {name for name in keys_of("ModelConfig") if has_mark(model.model_fields[name], "adapter")}
    alone |= {"model_name_or_path", "attn_implementation", "use_peft"}
    assert {"lora_r", "lora_target_modules", "use_dora"} < alone
    assert marked == {*keys_of("ModelConfig"), "model_init_kwargs", "master_dtype", "tf32"} - alone


def plain_types(kind: Any) -> set[Any]:
    """The Python types of values that a declared type converts to."""
    if get_origin(kind) is Annotated:
        return plain_types(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return {type(word) for word in get_args(kind)}
    if get_origin(kind) in (dict, list):
        return {get_origin(kind)}
    return set().union(*map(plain_types, get_args(kind))) if get_args(kind) else {kind}


@pytest.mark.parametrize(("kind", "number"), [("sft", 2), ("apo", 1), ("apo", 2)])
def test_types_of_library_keys_that_are_read_here_are_those_of_the_files(kind, number):
    """They stand for the type checker alone: `if TYPE_CHECKING`."""
    model = file_model(kind)
    tree = ast.parse(inspect.getsource(inspect.getmodule(model.__mro__[number])))
    body = next(node.body for node in tree.body if getattr(node, "name", "") == model.__mro__[number].__name__)
    block = next(node for node in body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    assert len(block.body) >= 10
    for line in block.body:
        name, declared = ast.unparse(line.target), eval(ast.unparse(line.annotation))
        field = model.model_fields[name]
        # A default that is no plain value of the library's is none here.
        held = plain_types(field.annotation) | ({type(None)} if field.default is None else set())
        assert held == plain_types(declared), name


def test_every_key_of_the_libraries_is_taken():
    for kind, config in (("sft", "SFTConfig"), ("apo", "DPOConfig")):
        model = file_model(kind)
        assert issubclass(model, TrainingFile)
        assert keys_of(config).keys() | keys_of("ModelConfig").keys() <= model.model_fields.keys()


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        ("1e-4", "float", 1e-4),
        (3, "float", 3.0),
        ("12", "int", 12),
        (False, "IntervalStrategy | str", "no"),
        ("cosine", "SchedulerType | str", "cosine"),
        ("sigmoid", "list[str]", ["sigmoid"]),
        ("all", "None | str | list[str]", "all"),
        (["a", "b"], "None | str | list[str]", ["a", "b"]),
        (None, "int | None", None),
        ({"a": 1}, "dict[str, Any] | str | None", {"a": 1}),
        (0.5, "float | str", 0.5),
        (7, "str", "7"),
        (False, "str | None | Literal[False]", False),
    ],
)
def test_values_are_converted_as_the_annotation_says(value, annotation, expected):
    found = TypeAdapter(type_of(annotation)).validate_python(value)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ("x", "float"),
        (1.5, "int"),
        (2.0, "int"),
        (True, "int"),
        (True, "float"),
        (1, "bool"),
        ("yes", "bool"),
        (None, "int"),
        ([1], "str"),
        (float("nan"), "float"),
        (True, "SchedulerType | str"),
        ("cosin", "SchedulerType | str"),
        (None, "OptimizerNames | str"),
        ({1: 2}, "dict[str, Any]"),
    ],
)
def test_values_of_the_wrong_type_are_refused(value, annotation):
    with pytest.raises(ValidationError):
        TypeAdapter(type_of(annotation)).validate_python(value)


def test_words_of_enumerations_are_those_of_the_installed_classes():
    from transformers import trainer_utils, training_args

    for name, words in enumerations().items():
        installed = getattr(trainer_utils, name, None) or getattr(training_args, name)
        assert set(words) == {member.value for member in installed}, name


@pytest.mark.parametrize(
    ("key", "value"),
    [("adam_beta1", 1), ("adam_epsilon", -1), ("lora_r", 0), ("lora_dropout", 1), ("logging_steps", -1),
     ("label_smoothing_factor", 2), ("eval_accumulation_steps", 0), ("ddp_timeout", 0), ("ld_alpha", 1.5),
     ("save_total_limit", 0), ("local_rank", -2),
     ("ref_model_sync_steps", 0), ("ref_model_mixup_alpha", -0.1), ("discopop_tau", 0), ("label_smoothing", -0.1),
     ("router_aux_loss_coef", -1), ("dataloader_prefetch_factor", 0), ("ddp_bucket_cap_mb", 0)],
)  # fmt: skip
def test_keys_of_the_libraries_have_the_bounds_they_need(key, value):
    kind, field = field_of(next(keys_of(c)[key] for c in CLASSES if key in keys_of(c)))
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(value)
    TypeAdapter(kind).validate_python(field.default)
