"""The private names of libraries: each has the shape that `apo_soup/private.py` counts on, and stands nowhere else."""

import ast
import inspect
import re

import pytest
from helpers import ROOT

CODE = [file for room in ("apo_soup", "sft", "apo", "merge") for file in sorted((ROOT / room).rglob("*.py"))]


def parameters(function) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_trainer_saves_through_these_methods():
    from transformers import Trainer

    assert parameters(Trainer._save_checkpoint) == ["self", "model", "trial"]
    assert parameters(Trainer._save) == ["self", "output_dir", "state_dict"]
    assert parameters(Trainer._get_train_sampler) == ["self", "train_dataset"]
    assert parameters(Trainer.save_model) == ["self", "output_dir", "_internal_call"]
    assert "self._save_checkpoint(model, trial)" in inspect.getsource(Trainer)
    assert "self._save(output_dir, state_dict=state_dict)" in inspect.getsource(Trainer.save_model)


def test_trls_trainers_count_under_these_names():
    from trl import DPOTrainer, SFTTrainer

    for trainer in (DPOTrainer, SFTTrainer):
        assert "self._total_train_tokens = 0" in inspect.getsource(trainer.__init__)
        assert 'self._metrics = {"train": defaultdict(list)' in inspect.getsource(trainer.__init__)
    assert 'self._metrics[mode]["num_tokens"] = [self._total_train_tokens]' in inspect.getsource(SFTTrainer)


def test_the_dpo_trainers_constructor_calls_these_hooks():
    """The reference pass comes last in it, behind the hash: nothing that the later pass would miss."""
    from trl import DPOTrainer
    from trl.trainer import dpo_trainer

    assert parameters(DPOTrainer._prepare_dataset)[:2] == ["self", "dataset"]
    assert parameters(DPOTrainer._precompute_ref_logps) == ["self", "dataset", "name", "batch_size"]
    assert parameters(dpo_trainer.hash_module) == ["module"]
    made = inspect.getsource(DPOTrainer.__init__)
    assert "hash_module(self.ref_model or self.model)" in made
    assert "self._precompute_engine = None" in made
    assert "self._precompute_model_hash = (" in made
    behind = made[made.index("self._precompute_ref_logps(") :]
    assert re.findall(r"self\.(\w+) = ", behind) == ["eval_dataset", "eval_dataset", "ref_model"]


def test_a_reference_pass_names_its_cache_file_by_the_fingerprint():
    from datasets import Dataset
    from trl import DPOTrainer

    from apo_soup.private import with_fingerprint

    assert "Hasher.hash((dataset._fingerprint, model_hash))" in inspect.getsource(DPOTrainer._precompute_ref_logps)
    assert "cache_file = dataset._get_cache_file_path(" in inspect.getsource(DPOTrainer._precompute_ref_logps)
    dataset = Dataset.from_dict({"a": [1, 2]})
    assert with_fingerprint(dataset, "ours")._fingerprint == "ours"
    assert dataset._fingerprint != "ours"
    assert with_fingerprint(dataset, "ours")["a"] == [1, 2]


def test_gradients_can_be_held():
    from accelerate.state import GradientState

    from apo_soup.private import hold_gradients

    state = GradientState()
    for held in (True, False):
        hold_gradients(state, held)
        assert state.sync_gradients is not held


def test_models_say_what_attention_they_run_with(tiny_model):
    from transformers import AutoModelForCausalLM, BloomConfig, BloomForCausalLM, PreTrainedConfig, SmolLM3ForCausalLM

    from apo_soup.private import (
        attention_implementation,
        causal_model_class,
        lets_attention_be_set,
        supports_attention,
    )

    model = AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation="eager")
    assert attention_implementation(model.config) == "eager"
    assert causal_model_class(model.config) is SmolLM3ForCausalLM
    assert supports_attention(SmolLM3ForCausalLM, "flex_attention")
    assert supports_attention(SmolLM3ForCausalLM, "sdpa")
    assert causal_model_class(BloomConfig()) is BloomForCausalLM
    assert not supports_attention(BloomForCausalLM, "flex_attention")
    assert lets_attention_be_set(SmolLM3ForCausalLM)
    assert not lets_attention_be_set(BloomForCausalLM)
    assert causal_model_class(PreTrainedConfig()) is None


def test_mergekit_lists_its_chat_templates():
    from apo_soup.private import mergekit_template_names

    assert {"chatml", "llama3"} <= set(mergekit_template_names())


def test_the_harness_scores_and_generates_through_these_methods():
    from lm_eval.models.huggingface import HFLM

    assert parameters(HFLM._loglikelihood_tokens)[:2] == ["self", "requests"]
    assert parameters(HFLM._model_generate)[:4] == ["self", "context", "max_length", "stop"]
    pytest.importorskip("vllm")
    from lm_eval.models.vllm_causallms import VLLM

    assert parameters(VLLM._model_generate)[:4] == ["self", "requests", "generate", "sampling_params"]


# Ends of a model's settings, such as `eos_token_id`.
ENDS_OF_KEYS = ("_id", "_ids", "_tokens", "_section", "_token_id", "_pdrop")


def test_private_names_as_texts_are_those_of_the_libraries():
    from transformers import GenerationConfig
    from trl import DPOConfig, SFTConfig

    from apo_soup.private import MADE_FROM_MODEL, TRL_BASE_CONFIG

    for config in (SFTConfig, DPOConfig):
        assert config.__mro__[1].__name__ == TRL_BASE_CONFIG
    assert hasattr(GenerationConfig(), MADE_FROM_MODEL)


def used_private_names(tree: ast.Module) -> dict[str, int]:
    """Private names that a file reads, calls, defines in a class, imports from or has as a text, with a line each."""
    found = {}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found[node.attr] = node.lineno
        elif isinstance(node, ast.ClassDef):
            found |= {
                item.name: item.lineno
                for item in node.body
                if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))
            }
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= dict.fromkeys(node.module.split("."), node.lineno)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            found |= {node.value: node.lineno} if node.value.isidentifier() else {}
    return {name: line for name, line in found.items() if re.match("_[A-Za-z]", name)}


def defined_private_names(tree: ast.Module) -> set[str]:
    """Private names that a file itself gives: functions, classes, names, fields, and attributes of `self`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            names.add(node.attr)
    return names


def test_no_other_file_uses_a_private_name_of_a_library():
    trees = {file: ast.parse(file.read_text(encoding="utf-8")) for file in CODE}
    libraries = used_private_names(trees.pop(ROOT / "apo_soup" / "private.py"))
    assert {"_save", "_fingerprint", "_model_mapping", "_data", "_loglikelihood_tokens", "_BaseConfig"} <= set(
        libraries
    )
    ours = set().union(*map(defined_private_names, trees.values())) - set(libraries)
    for file, tree in trees.items():
        strange = {
            name: line for name, line in used_private_names(tree).items() if name not in ours | {"_exit", *ENDS_OF_KEYS}
        }  # os._exit is public
        assert strange == {}, f"{file.relative_to(ROOT)} uses private names; see apo_soup/private.py"


def test_our_trainers_override_nothing_private_and_the_public_methods_that_they_mean_to():
    """A name of ours that a later release takes too would be called by it."""
    from transformers import Trainer
    from trl import DPOTrainer, SFTTrainer

    from apo.trainer import PackedDPOTrainer
    from sft.train import PackedSFTTrainer

    meant = {
        "__init__", "compute_loss", "create_accelerator_and_postprocess", "evaluate", "evaluation_loop",
        "get_batch_samples", "get_cp_size", "get_eval_dataloader", "get_train_dataloader", "log", "save_model",
        "training_step",
    }  # fmt: skip
    hooks = {
        "_save_checkpoint",
        "_save",
        "_get_grad_norm",
        "_load_best_model",
        "_finalize_training",
        "_prepare_dataset",
        "_precompute_ref_logps",
    }
    for ours, theirs in ((PackedDPOTrainer, DPOTrainer), (PackedSFTTrainer, SFTTrainer)):
        libraries = set(dir(theirs)) | set(dir(Trainer))
        for layer in ours.__mro__:
            if layer.__module__.split(".")[0] in ("apo", "sft", "apo_soup"):
                named = {name for name in vars(layer) if name not in vars(type("Empty", (), {})) or name == "__init__"}
                taken = named & libraries - {"__module__", "__doc__", "__firstlineno__", "__static_attributes__"}
                assert taken <= (hooks if layer.__module__ == "apo_soup.private" else meant), (layer, taken)


def test_deepspeeds_settings_are_forgotten_for_a_while():
    from transformers.integrations import deepspeed

    from apo_soup.private import outside_deepspeed

    class Settings:
        def is_zero3(self):
            return True

    settings = Settings()
    deepspeed.set_hf_deepspeed_config(settings)
    try:
        with outside_deepspeed():
            assert not deepspeed.is_deepspeed_zero3_enabled()
        assert deepspeed.is_deepspeed_zero3_enabled()
    finally:
        deepspeed.unset_hf_deepspeed_config()


def test_the_trainer_begins_its_counts_anew_before_it_calls_back():
    """What a checkpoint counted is put back in `on_train_begin`."""
    from transformers import Trainer

    source = inspect.getsource(Trainer)
    for name in ("_initial_global_step = ", "_tr_loss = ", "_total_loss_scalar = 0.0", "_globalstep_last_logged = "):
        assert source.index(f"self.{name}") < source.index("self.callback_handler.on_train_begin")
    assert "num_steps_trained = self.state.global_step - self._initial_global_step" in source


def test_the_trainer_ends_here():
    from transformers import Trainer

    assert parameters(Trainer._load_best_model) == ["self"]
    ends = inspect.getsource(Trainer._finalize_training)
    assert ends.count("self._load_best_model()") == 1
    assert "self.args.save_total_limit == 1" in ends
    assert "return self._finalize_training(trial, num_train_samples, start_time)" in inspect.getsource(Trainer)


def test_the_trainer_takes_each_steps_norm_here():
    from transformers import Trainer

    assert parameters(Trainer._get_grad_norm) == ["self", "model", "grad_norm"]
    assert "grad_norm = self._get_grad_norm(model, grad_norm=grad_norm)" in inspect.getsource(Trainer._run_epoch)
