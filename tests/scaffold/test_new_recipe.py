"""`apo-soup new`: what is written of a person's rows, what is said, and what is refused."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from helpers import ROOT, chat, preference

from apo_soup.config.slurm import job_processes, slurm_file
from apo_soup.data.prepare import prepare_mixture
from apo_soup.errors import UserError
from apo_soup.models.recipe_tokenizer import recipe_tokenizer
from apo_soup.plan.check import check_recipe
from apo_soup.plan.jobs import job_problems
from apo_soup.scaffold.model_seen import path_from
from apo_soup.scaffold.new_recipe import RecipeRequest, new_recipe, next_command, whole_folder

BASE = str(ROOT / "recipes" / "tiny" / "base")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with rows, half of which think, and pairs of ten prompts, each twice."""
    monkeypatch.chdir(tmp_path)
    plain = [chat(f"what is {n} plus {n}?", f"it is {2 * n}.") for n in range(20)]
    thinking = [chat(f"what is {n} times two?", f"<think>\ntwice {n}\n</think>\n{2 * n}") for n in range(20)]
    write(tmp_path / "rows.jsonl", [row for both in zip(plain, thinking, strict=True) for row in both])
    write(tmp_path / "pairs.jsonl", [preference(f"say {n // 2}", f"{n}", f"not {n}") for n in range(20)])
    return tmp_path


def write(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_recipe_of_rows_and_pairs_passes_check_and_holds_whole_prompts_out(here):
    said = []
    mixed = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "x<|im_end|>y"}]}
    write(here / "rows.jsonl", [mixed, *read(here / "rows.jsonl")])
    with (here / "rows.jsonl").open("a") as rows:
        rows.write(json.dumps(chat("half", "\ud800")) + "\n")
    folder = new_recipe(RecipeRequest("mine", BASE, "rows.jsonl", "pairs.jsonl", size="laptop"), said.append)
    recipes, problems = check_recipe(folder)
    assert problems == []
    assert "1 of 42 rows cannot be used, and are left out; the first: rows.jsonl:42: expected UTF-8" in said[1]
    assert any(
        line.startswith("rows.jsonl: 1 of 41 rows cannot be trained on, and are left out; the first: rows.jsonl:1: ")
        for line in said
    )
    assert [row["row"] for row in read(folder / "data" / "train-rejects.jsonl")] == ["rows.jsonl:1", "rows.jsonl:42"]
    prepared = []
    prepare_mixture(recipes[3], recipe_tokenizer(recipes[3]), prepared.append)
    assert not any("reject" in line for line in prepared)
    assert not any("of the first" in line for line in said)
    assert [recipe.path.name for recipe in recipes] == ["apo.yaml", "eval.yaml", "merge.yaml", "sft.yaml"]
    assert said[0] == "rows.jsonl: 41 rows of format messages: 20 with reasoning, 21 without reasoning"
    assert "rows.jsonl: 36 to train on, 4 held out by prompt (seed 0)" in said
    sft = yaml.safe_load((folder / "sft.yaml").read_text())
    assert sft["dataset_mixture"]["datasets"] == [{"id": "data/train.jsonl", "mode": "by_row"}]
    assert (sft["max_length"], sft["global_batch_size"], sft["bf16"], sft["num_train_epochs"]) == (256, 4, False, 3)
    held, trained = (
        {row["prompt"][0]["content"] for row in read(folder / "data" / f"{name}.jsonl")}
        for name in ("heldout-pairs", "pairs")
    )
    assert (len(held), len(trained)) == (1, 9)
    assert not held & trained
    for row in read(folder / "data" / "heldout.jsonl"):
        thinks = "<think>" in str(row["messages"]) or "reasoning_content" in str(row["messages"])
        assert row["chat_template_kwargs"] == {"enable_thinking": thinks}
    assert (folder / "schema" / "apo.json").is_file()
    with pytest.raises(UserError, match="mine: expected a new folder, got one that is there"):
        new_recipe(RecipeRequest("mine", BASE, "rows.jsonl"), print)


def test_a_model_that_is_not_here_is_told_and_only_what_the_rows_allow_is_written(here):
    (here / "asked.csv").write_text("Question,Answer\n" + "".join(f"what is {n}?,a number\n" for n in range(30)))
    request = RecipeRequest("recipes/mine", "nobody/nothing-here", "asked.csv", size="node", adapter="qlora")
    said = []
    folder = new_recipe(request, said.append)
    assert sorted(file.name for file in folder.glob("*.yaml")) == ["eval.yaml", "recipe.yaml", "sft.yaml"]
    assert "asked.csv: columns are read by what they seem to be: Question as prompt, Answer as completion" in said
    assert any(line.startswith("nobody/nothing-here: its files cannot be seen here") for line in said)
    sft = yaml.safe_load((folder / "sft.yaml").read_text())
    assert sft["load_in_4bit"]
    assert sft["eos_token"] == "<|im_end|>"
    assert sft["dataset_mixture"]["datasets"][0]["chat_template_kwargs"] == {"enable_thinking": False}
    assert read(folder / "data" / "train.jsonl")[0].keys() == {"prompt", "completion"}
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["name"] == "mine"
    assert shlex.split(next_command(request))[2:] == ["recipes/mine", "--launch", "fsdp2.yaml"]


def test_a_cluster_gets_what_its_jobs_ask_for_and_the_job_file(here):
    rows = [{"prompt": f"what is {n}?", "completion": "a number"} for n in range(30)]
    write(here / "rows.jsonl", rows)
    write(here / "asked.jsonl", [{"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(12)])
    request = RecipeRequest("a b", "nobody/nothing-here", "rows.jsonl", prompts="asked.jsonl", size="cluster")
    folder = new_recipe(request, lambda _: None)
    settings, _ = slurm_file(folder)
    assert [job_processes(settings.job(stage)) for stage in ("sft", "apo")] == [16, 16]
    assert settings.job("merge").gpus_per_node == 0
    assert (folder / "stage.sbatch").read_bytes() == (ROOT / "recipes" / "slurm" / "stage.sbatch").read_bytes()
    assert (folder / "schema" / "slurm.json").is_file()
    written = [yaml.safe_load((folder / f"{name}.yaml").read_text()) for name in ("sft", "apo")]
    assert [keys["global_batch_size"] for keys in written] == [16, 128]
    assert job_problems(folder, ["sft.yaml", "apo.yaml"]) == []
    assert "#   apo-soup submit sft 'a b'\n" in (folder / "sft.yaml").read_text()
    assert next_command(request) == "apo-soup submit 'a b'"


def test_pairs_are_made_of_prompts_where_no_pairs_are_given(here):
    write(here / "asked.jsonl", [{"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(12)])
    folder = new_recipe(RecipeRequest("made", "nobody/nothing-here", prompts="asked.jsonl"), lambda _: None)
    pairs, apo = (yaml.safe_load((folder / name).read_text()) for name in ("pairs.yaml", "apo.yaml"))
    assert (pairs["prompts"], pairs["verifier"], pairs["strong"]["model"]) == ("../asked.jsonl", "number", "base")
    assert apo["dataset_mixture"]["datasets"] == [{"id": "pairs/train.jsonl"}]
    assert [m["model"] for m in yaml.safe_load((folder / "merge.yaml").read_text())["merge"]["models"]] == [
        "soup",
        "base",
    ]


def test_pairs_of_a_model_without_a_template_are_made_with_ours(here):
    """The recipe passes check, as any that is written."""
    model = shutil.copytree(BASE, here / "bare")
    (model / "chat_template.jinja").unlink()
    write(here / "asked.jsonl", [{"prompt": f"{n} + 1?"} for n in range(12)])
    with pytest.raises(
        UserError, match=r"expected answers too, got prompts alone in asked\.jsonl; give it with --prompts"
    ):
        new_recipe(RecipeRequest("x", "bare", "asked.jsonl"), print)
    for data in ("", "rows.jsonl"):
        request = RecipeRequest(f"made{len(data)}", "bare", data, prompts="asked.jsonl", size="laptop")
        assert check_recipe(new_recipe(request, lambda _: None))[1] == []


def test_what_nothing_reads_is_named(here):
    """Answers that are labelled wrong would be trained on as the others are."""
    rows = [{"prompt": f"{n}?", "completion": f"{n}", "label": n % 2 == 0, "topic": "x"} for n in range(20)]
    write(here / "labelled.jsonl", rows)
    said = []
    new_recipe(RecipeRequest("labelled", "nobody/nothing-here", "labelled.jsonl"), said.append)
    told = (
        "warning: field label of 20 rows of labelled.jsonl is not used, and such a field says how a row is to be used"
    )
    assert said[1:3] == [told, "labelled.jsonl: fields that are not used: label, topic"]
    with pytest.raises(UserError, match=r"--pairs: expected preference pairs, got single answers that are labelled"):
        new_recipe(RecipeRequest("other", "nobody/nothing-here", pairs="labelled.jsonl"), print)


def test_rows_that_cannot_be_used_are_listed_and_too_few_prompts_are_told(here):
    (here / "few.jsonl").write_text(json.dumps(chat("a", "b")) + "\n{broken\n")
    said = []
    folder = new_recipe(RecipeRequest("few", "nobody/nothing-here", "few.jsonl"), said.append)
    assert said[1].startswith("few.jsonl: 1 of 2 rows cannot be used, and are left out; the first: few.jsonl:2: ")
    assert "few.jsonl: too few prompts to hold some out, so evaluations see what was trained on" in said
    assert [row["row"] for row in read(folder / "data" / "train-rejects.jsonl")] == ["few.jsonl:2"]
    assert len(read(folder / "data" / "train.jsonl")) == len(read(folder / "data" / "heldout.jsonl")) == 1


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (RecipeRequest(".x", BASE, "rows.jsonl"), r"NAME: expected a name that a folder can have, got '\.x'"),
        (
            RecipeRequest("rows.jsonl/x", BASE, "rows.jsonl"),
            r"where a folder can be made, got .*rows\.jsonl, which is a file",
        ),
        (RecipeRequest("x", "", "rows.jsonl"), "--model: expected a model's folder or its id on the Hub, got none"),
        (RecipeRequest("x", BASE), "new: expected rows, got none; give --data"),
        (RecipeRequest("x", BASE, "rows.jsonl", size="lapto"), "got lapto; the nearest is laptop"),
        (RecipeRequest("x", BASE, "row.jsonl"), "--data: expected a data file, got row.jsonl, which is not there"),
        (
            RecipeRequest("x", BASE, "."),
            r"--data: expected a data file, got the folder \.; name .* such as '\./\*\.jsonl'",
        ),
        (RecipeRequest("x", BASE, "pairs.jsonl"), "got preference pairs in pairs.jsonl; give it with --pairs"),
        (RecipeRequest("x", BASE, "", "rows.jsonl"), "got conversations in rows.jsonl; give it with --data"),
        (RecipeRequest("x", "./bse", "rows.jsonl"), "--model: expected a model folder, got ./bse"),
        (RecipeRequest("x", BASE, prompts="pairs"), "--prompts: expected a data file"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(here, request_, sentence):
    with pytest.raises(UserError, match=sentence) as raised:
        new_recipe(request_, lambda _: None)
    assert "\n" not in str(raised.value)
    assert sorted(file.name for file in here.iterdir()) == ["pairs.jsonl", "rows.jsonl"]


def test_a_home_is_written_out_in_every_path(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here / "home"))
    request = RecipeRequest("~/mine", "nobody/nothing-here", prompts="asked.jsonl")
    write(here / "asked.jsonl", [{"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(3)])
    folder = new_recipe(request, lambda _: None)
    assert folder == here / "home" / "mine"
    pairs = (folder / "pairs.yaml").read_text()
    assert yaml.safe_load(pairs)["prompts"] == "../../asked.jsonl"
    assert f"apo-soup run pairs {folder}" in pairs
    assert shlex.split(next_command(request))[2] == str(folder)


def test_a_path_is_found_from_a_folder_below_a_link(here):
    (here / "far" / "away").mkdir(parents=True)
    (here / "link").symlink_to(here / "far" / "away")
    (here / "rows").mkdir()
    assert path_from(Path("link/mine"), "rows/a.jsonl") == "../../../rows/a.jsonl"
    assert (here / "far/away" / path_from(Path("link"), "rows")).resolve() == here / "rows"


def test_folders_made_for_a_recipe_that_is_stopped_are_taken_back(here):
    (here / "kept").mkdir()
    for name in ("out/deep/mine", "kept/mine"):
        with pytest.raises(KeyboardInterrupt), whole_folder(Path(name)):
            raise KeyboardInterrupt
    assert sorted(file.name for file in here.iterdir()) == ["kept", "pairs.jsonl", "rows.jsonl"]
