"""TRL's and transformers' keys are those of the installed release, and ours that share their name are theirs."""

import dataclasses

import pytest
from pydantic import TypeAdapter, ValidationError

from apo_soup.config.library_keys import field_of, type_of
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
     ("label_smoothing_factor", 2), ("eval_accumulation_steps", 0), ("ddp_timeout", 0)],
)  # fmt: skip
def test_keys_of_the_libraries_have_the_bounds_they_need(key, value):
    kind, _ = field_of(next(keys_of(c)[key] for c in CLASSES if key in keys_of(c)))
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(value)
    TypeAdapter(kind).validate_python(
        field_of(keys_of("ModelConfig" if "lora" in key else "SFTConfig")[key])[1].default
    )
