"""Tiny models and rows built for the tests; nothing is downloaded."""

import gc
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from helpers import TINY_SHAPE
from hypothesis import settings
from programs import asked_at
from started import fork_what_is_started

# Machines that test are often busy; a slow example is no fault.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Two workers share two cores (see addopts); threads of both would starve each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
fork_what_is_started(asked_at)

# The files that take longest, the longest first. Workers take files in this order, so that no long one is left for the
# end, where one worker would wait for the other.
LONGEST_FILES = (
    "apo/test_trainer_steps.py", "plan/test_recipe_plan.py", "test_refusals.py", "plan/test_named.py",
    "apo/pairs/engines/test_endpoint.py", "test_hub.py", "evals/harness/test_task.py", "sft/test_train.py",
    "cli/test_app.py", "test_wheel.py", "training/test_fsdp.py", "test_mutations.py", "data/test_prepare.py",
    "training/test_trained_adapters.py", "test_torture.py", "bench/test_gpu.py", "merge/test_sweep.py",
    "training/test_step_order_of_ranks.py", "training/test_interrupted.py", "apo/test_scoring.py",
    "merge/test_greedy.py", "cli/test_submit.py", "training/test_suite_scores.py", "config/test_remedies.py",
    "cli/test_remembered.py", "apo/test_reference_pass.py", "apo/test_trainer_logs.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of the longest files first; within a file, and of all others, as they stand."""
    here = Path(__file__).parent
    rank = {here / name: number for number, name in enumerate(LONGEST_FILES)}
    gone = [str(file) for file in rank if not file.is_file()]
    if gone:
        raise pytest.UsageError(f"{__file__}: LONGEST_FILES: expected files that are there, got {', '.join(gone)}")
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


# Modules from which on what they hold is left out of collections anew, and how many there were then.
MANY_MODULES = 100
SPARED = {"modules": 0}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let the collector pass by all tests and libraries, as programs do: a training collects several times, and each
    time it would walk half a million objects that live as long as this process.
    """
    if len(sys.modules) >= SPARED["modules"] + MANY_MODULES:
        SPARED["modules"] = len(sys.modules)
        gc.collect()
        gc.freeze()


CHATML = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)

# As SmolLM2-Instruct ships it.
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

LLAMA_LIKE = (
    "{{- '<|endoftext|>' -}}{%- for m in messages -%}"
    "{{- '<|im_start|>' + m.role + '\n\n' + m.content + '<|im_end|>' -}}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n\n' -}}{%- endif -%}"
)


# Strips the reasoning of answers before the last question, prefills an empty block in the prompt and in last answers
# without reasoning, writes calls in tags and tool results as user turns.
QWEN3_LIKE = """
{%- set ns = namespace(last=0) -%}
{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- if tools -%}{{- '<|im_start|>system\n# Tools\n' -}}
{%- for tool in tools -%}{{- tool | tojson + '\n' -}}{%- endfor -%}{{- '<|im_end|>\n' -}}{%- endif -%}
{%- for m in messages -%}
{%- if m.role == 'tool' -%}
{{- '<|im_start|>user\n<tool_response>\n' + m.content + '\n</tool_response><|im_end|>\n' -}}
{%- elif m.role == 'assistant' -%}
{%- set thought = m.content.split('</think>')[0].split('<think>')[-1].strip('\n') if '</think>' in m.content else '' -%}
{%- set said = m.content.split('</think>')[-1].lstrip('\n') -%}
{{- '<|im_start|>assistant\n' -}}
{%- if loop.index0 > ns.last and (loop.last or thought) -%}{{- '<think>\n' + thought + '\n</think>\n\n' -}}{%- endif -%}
{{- said -}}
{%- for call in m.tool_calls or [] -%}
{{- ('\n' if said or not loop.first else '') + '<tool_call>\n' + call.function | tojson + '\n</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\n' -}}
{%- else -%}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}
{%- if enable_thinking is defined and not enable_thinking -%}{{- '<think>\n\n</think>\n\n' -}}{%- endif -%}{%- endif -%}
"""


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """A folder without neighbours: a check of a recipe looks at the recipes beside it, which would be other tests'."""
    alone = tmp_path / "alone"
    alone.mkdir()
    return alone


@pytest.fixture(scope="session")
def tokenizer():
    """The small world's tokenizer, with our own chat template."""
    from apo_soup.runs.chat_template import template_text
    from apo_soup.toy.tokenizer import trained_tokenizer

    return trained_tokenizer(template_text("apo-soup", "chat_template"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, tokenizer) -> Path:
    """A randomly initialised SmolLM3 of four layers, saved in float32."""
    import torch
    from transformers import SmolLM3Config, SmolLM3ForCausalLM

    torch.manual_seed(0)
    config = SmolLM3Config(
        **TINY_SHAPE,
        vocab_size=len(tokenizer),
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.1,
    )
    folder = tmp_path_factory.mktemp("model")
    SmolLM3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def talking_model(tmp_path_factory, tokenizer) -> Path:
    """A random SmolLM3 that ends its turn by itself, after a dozen tokens or so."""
    import torch
    from transformers import SmolLM3Config, SmolLM3ForCausalLM

    torch.manual_seed(0)
    ids = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    config = SmolLM3Config(
        **TINY_SHAPE, **ids, vocab_size=len(tokenizer), max_position_embeddings=512, initializer_range=0.1
    )
    config.tie_word_embeddings = False
    model = SmolLM3ForCausalLM(config)
    # A direction that all hidden states share, on which the head reads the end of turn.
    shared = torch.ones(config.hidden_size) / config.hidden_size**0.5
    with torch.no_grad():
        model.model.embed_tokens.weight += 2 * shared
        model.lm_head.weight[tokenizer.eos_token_id] += shared
    model.generation_config.update(do_sample=True, top_k=0)
    folder = tmp_path_factory.mktemp("talking")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def base_like_qwen(talking_model, tmp_path_factory) -> Path:
    """`talking_model` as published bases are: tokenizer and generation settings end a text with <|endoftext|> alone,
    and the template a turn with <|im_end|>.
    """
    from transformers import AutoTokenizer, GenerationConfig

    folder = tmp_path_factory.mktemp("base") / "model"
    shutil.copytree(talking_model, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.save_pretrained(folder)
    GenerationConfig(eos_token_id=tokenizer.eos_token_id).save_pretrained(folder)
    return folder


@pytest.fixture
def write_rows(tmp_path):
    """Write rows as JSONL into the test's folder; returns the file's path."""

    def write(name: str, rows: list[dict]) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def write_recipe(tmp_path):
    """Write a stage file from a mapping; returns its path."""
    import yaml

    def write(name: str, values: dict) -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return path

    return write
