# ruff: noqa: E501 - the sentences are long
"""Files that are hardly YAML, odd keys and odd words of the command line: each is told in one sentence."""

import pytest
from helpers import ROOT

from apo_soup.config.given import Given
from apo_soup.config.in_words import as_written
from apo_soup.config.load import load
from apo_soup.errors import UserError

TINY = ROOT / "recipes" / "tiny"
SUITE = "output_dir: o\ntasks: [{name: a, kind: loss, data: x}]\n"


def told(path, kind, *words):
    with pytest.raises(UserError) as error:
        load(path, kind, words)
    return [line.replace(f"{path}:", "").replace(f"{path} ", "").strip() for line in str(error.value).splitlines()]


BILLION = "a: &a0 [x, x]\n" + "".join(f"k{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("# caf\xe9\n".encode("latin-1") + SUITE.encode(), "1: expected text in UTF-8, got the byte 0xe9; save the file as UTF-8"),
        (SUITE.encode("utf-16"), "1: expected text in UTF-8, got the byte 0xff; save the file as UTF-8"),
        (b"a: 1\nb: \x07\n", "2: expected valid YAML, got the control character 0x07; remove it"),
        (b"", "expected a mapping of keys to values, got nothing; write `key: value` lines"),
        (b"- a\n", "expected a mapping of keys to values, got a list; write `key: value` lines"),
        (b"seed: 2024-13-45\n", "1: expected valid YAML, got '2024-13-45', which looks like YAML's timestamp and is none; put quotes around it"),
        (b"a: 1\nseed: 010\n", "2: expected valid YAML, got '010', which YAML reads as 8; put quotes around it, or write 8"),
        (b"max_steps: -1:30\n", "1: expected valid YAML, got '-1:30', which YAML reads as -90; put quotes around it, or write -90"),
        (b"a: 1\nseed: !!int x\n", "2: expected valid YAML, got 'x', which looks like YAML's int and is none; put quotes around it"),
        (b"a: !foo 1\n", "1: expected valid YAML, got what cannot be read (could not determine a constructor for the tag '!foo'); correct it"),
        (b"a: &a [*a]\n", "expected YAML of a few levels, got hundreds, or an anchor that holds itself; write it flatter"),
        (b"a: " + b"[" * 5000, "expected YAML of a few levels, got hundreds, or an anchor that holds itself; write it flatter"),
        (BILLION.encode(), "expected at most 100,000 keys, got more; write fewer aliases of aliases"),
        (SUITE.encode() + b"models: {a: x, yes: 1, true: 2}\n", "3: models.true: expected the key once, got it twice (first on line 3); keep one"),
    ],
)  # fmt: skip
def test_a_file_that_is_hardly_yaml_is_told_in_one_sentence(content, sentence, tmp_path):
    path = tmp_path / "eval.yaml"
    path.write_bytes(content)
    assert told(path, "eval") == [sentence]


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    path = tmp_path / "eval.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SUITE.encode())
    assert load(path, "eval").output_dir == "o"


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        (
            SUITE + "null: 1\n",
            ["3: null: expected a known key, got an unknown one; remove it, or find its name in docs/recipes.md"],
        ),
        (
            SUITE + "'': 1\n",
            ["3: '': expected a known key, got an unknown one; remove it, or find its name in docs/recipes.md"],
        ),
        (
            SUITE + "models: {a: x, no: y}\n",
            ["3: models.false: expected text as the key, got false; put quotes around it"],
        ),
        (
            "output_dir: o\ntasks:\n  - name: a\n    kind: loss\n    data: x\n    5: y\n",
            ["6: tasks.0.5: expected text as the key, got 5; remove it"],
        ),
        (
            SUITE + "seed: {2024-01-03: 1}\n",
            [
                '3: seed: expected a whole number from 0 to 2**32 - 1, got {"2024-01-03": 1}; write one value in place of the mapping, or leave the key out'
            ],
        ),
        (
            "<<: {smaples: 3}\n" + SUITE,
            ["1: smaples: expected a known key, got an unknown one; the nearest is samples"],
        ),
    ],
)
def test_keys_that_are_no_text_are_named_with_their_line(text, sentences, tmp_path):
    path = tmp_path / "eval.yaml"
    path.write_text(text)
    assert told(path, "eval") == sentences


def test_a_fault_inside_a_union_is_told_alone():
    assert told(TINY / "apo.yaml", "apo", "--dataset_mixture.decontaminate", "[{idd: x}]") == [
        "(command line): dataset_mixture.decontaminate.0.id: expected text, got nothing; add id to it",
        "(command line): dataset_mixture.decontaminate.0.idd: expected a known key, got an unknown one; the nearest is id",
    ]
    assert told(TINY / "merge.yaml", "merge", "--soup.members", "[[]]") == [
        "(command line): soup.members.0: expected text, got []; write one value in place of the list, or remove it"
    ]
    assert told(TINY / "pairs.yaml", "pairs", "--prompts", "{idd: x}") == [
        "(command line): prompts.id: expected text, got nothing; add id to it",
        "(command line): prompts.idd: expected a known key, got an unknown one; the nearest is id",
    ]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--"], "(command line): expected --key value, got '--'; name a key of the file"),
        (["--=x"], "(command line): expected --key value, got '--=x'; name a key of the file"),
        (["--seed", "2024-13-45"], "(command line): seed: expected a whole number from 0 to 2**32 - 1, got '2024-13-45'; write it in digits, or leave the key out"),
        (["--a.b", "1"], "(command line): a: expected a known key, got an unknown one; remove it, or find its name in docs/recipes.md"),
        (["--dataset_mixture.rename.a", "b"], "(command line): dataset_mixture.rename: expected a known key, got an unknown one; remove it, or find its name in docs/recipes.md"),
        (["--dataset_mixture.datasets", "[3]"], "(command line): dataset_mixture.datasets.0: expected a mapping with id, got 3; write {id: 3}, or remove it"),
    ],
)  # fmt: skip
def test_what_the_command_line_sets_is_not_looked_for_in_the_file(words, sentence):
    assert told(TINY / "sft.yaml", "sft", *words) == [sentence]


def test_one_value_stands_for_a_list_of_one():
    suite = load(TINY / "eval.yaml", "eval", ["--tasks.0.modes", "think"])
    assert suite.given_values()["tasks"][0]["modes"] == ["think"]
    harness = "{name: h, kind: harness, tasks: ifeval, lengths: 4096}"
    task = load(TINY / "eval.yaml", "eval", ["--tasks.0", harness]).given_values()["tasks"][0]
    assert (task["tasks"], task["lengths"]) == (["ifeval"], [4096])
    apo = load(TINY / "apo.yaml", "apo", ["--dataset_mixture.decontaminate", "owner/name"])
    assert apo.dataset_mixture.decontaminate == ["owner/name"]
    merge = load(TINY / "merge.yaml", "merge", ["--sweep.weights", "1"])
    assert merge.sweep.weights == [1.0]


def test_a_name_that_no_file_system_takes_is_told():
    (sentence,) = told(TINY / "sft.yaml", "sft", "--model_name_or_path", "x" * 300)
    assert sentence == (
        "(command line): model_name_or_path: expected a path or an id, got 300 characters, which no file can be "
        "called; correct it"
    )


def test_dotted_keys_inside_a_mapping_are_keys_of_their_own(tmp_path):
    path = tmp_path / "eval.yaml"
    path.write_text(SUITE + "models: {a.b: x}\n")
    assert load(path, "eval").models == {"a.b": "x"}
    assert Given.from_file(path, []).where("models.a.b") == f"{path}:3"


def test_long_values_are_cut():
    assert as_written("a" * 500) == "'" + "a" * 196 + "..."
    assert as_written(10**5000) == "a number of more than 100 digits"
    assert as_written([10**5000]) == '["a number of more than 100 digits"]'
