"""Scripts with a `swift sft` command: their words as keys, as a shell and ms-swift would read them."""

from pathlib import Path

import pytest

from apo_soup.errors import UserError
from apo_soup.scaffold.swift_command import swift_keys

FILE = Path("train.sh")


def keys(text: str):
    return swift_keys(text, FILE)


def test_the_words_of_a_command_are_keys_with_their_kinds():
    text = r"""
# 24 GB
export MODEL=Qwen/Qwen2.5-0.5B
nproc_per_node=2
CUDA_VISIBLE_DEVICES=0,1 NPROC_PER_NODE=$nproc_per_node \
swift sft \
    --model ${MODEL} --dataset 'a.jsonl' "my rows.jsonl#500" \
    --learning-rate 1e-4 --lora_rank=8 \
    --gradient_accumulation_steps $(expr 16 / $nproc_per_node) \
    --max_grad_norm $(cat norm) --save_steps $((800 / $nproc_per_node / 2)) \
    --packing true --save_strategy no --use_dora \
    --lr_scheduler_kwargs '{"min_lr": 1e-6}' --max_length 2048 2>&1 | tee --append log
echo --model done
"""
    assert keys(text) == {
        "NPROC_PER_NODE": 2, "command": "sft", "model": "Qwen/Qwen2.5-0.5B",
        "dataset": ["a.jsonl", "my rows.jsonl#500"], "learning_rate": 1e-4, "lora_rank": 8,
        "gradient_accumulation_steps": 8, "max_grad_norm": "$(cat norm)", "save_steps": 200,
        "packing": True, "save_strategy": "no", "use_dora": True, "lr_scheduler_kwargs": {"min_lr": 1e-6},
        "max_length": 2048,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("swift rlhf --model a", "rlhf"),
        ("accelerate launch --num_processes 2 swift/cli/rlhf.py --model a", "rlhf"),
        ("python -m swift.cli.sft --model a", "sft"),
        ("torchrun --nproc_per_node 4 /opt/venv/bin/swift pt --model a", "pt"),
        ("swift sft --model a && echo", "sft"),
        ("swift sft --model a\r", "sft"),
        ("swift sft --model a # it's mine --model b", "sft"),
        ("swift sft \\\r\n  --model a", "sft"),
    ],
)
def test_a_command_is_found_behind_a_path_and_a_launcher(line, command):
    assert keys(f"cd there\n{line}\n") == {"command": command, "model": "a"}


@pytest.mark.parametrize("text", ["", "model: a\n", "# swift sft --model a", "swift infer --model a", "it's"])
def test_a_text_without_a_command_is_none(text):
    assert keys(text) is None


def test_several_commands_and_one_without_keys_are_a_sentence():
    with pytest.raises(UserError, match=r"train\.sh: expected one swift command, got 2; put each into a script"):
        keys("swift pt --model a\nswift sft --model b\n")
    with pytest.raises(UserError, match=r"train\.sh: expected --model behind swift sft, got none; give"):
        keys("swift sft config.yaml\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("swift sft --model ${MODEL:-org/m} --dataset a b; echo done", {"model": "org/m", "dataset": ["a", "b"]}),
        ("MODEL=org/n\nswift sft --model ${MODEL:-org/m} --dataset a", {"model": "org/n", "dataset": "a"}),
        ("A=1; B='x y'; swift sft --model m --dataset \"$B\"", {"model": "m", "dataset": "x y"}),
        ("B='x y --seed 5'; swift sft --model m --dataset $B", {"model": "m", "dataset": ["x", "y"], "seed": 5}),
        ("E=\nswift sft --model m --dataset d.jsonl $E", {"model": "m", "dataset": "d.jsonl"}),
        ("E=\nswift sft --model m --dataset d.jsonl ${E} --use_dora $E;", {
            "model": "m", "dataset": "d.jsonl", "use_dora": True
        }),
        ("E=\nswift sft --model m --system \"$E\" --suffix ${E-a} ${E:-b} ${E:=c} ${F=d} $F", {
            "model": "m", "system": "", "suffix": ["b", "c", "d", "$F"]
        }),
        ("E=\nswift sft --model m --output_dir out$E/a --system \"say $E now\"", {
            "model": "m", "output_dir": "out/a", "system": "say  now"
        }),
        ("swift sft --model m --learning_rate 1e-4;\nswift infer --model q", {"model": "m", "learning_rate": 1e-4}),
        ("export A=5;swift sft --model m --seed $A;", {"model": "m", "seed": 5}),
        ("swift sft --model m --system 'Be\nkind; and\n# brief' --seed 5", {
            "model": "m", "system": "Be\nkind; and\n# brief", "seed": 5
        }),
        ("S='one\ntwo'\nswift sft --model m --system \"$S\"", {"model": "m", "system": "one\ntwo"}),
        ("# it's a comment\nswift sft --model m # don't\necho 'x'", {"model": "m"}),
    ],
)  # fmt: skip
def test_words_are_those_of_a_shell(text, expected):
    assert keys(text) == {"command": "sft", **expected}
