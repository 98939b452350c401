"""`recipe.yaml` beside stage files: what follows from it, and every way to write it wrong."""

import shutil

import pytest
from helpers import preference

from apo_soup.cli.order import order
from apo_soup.cli.reads import steps_needed
from apo_soup.config.load import load
from apo_soup.config.members import member_recipes
from apo_soup.config.recipe_file import shared_keys
from apo_soup.errors import UserError
from apo_soup.evals.models_to_evaluate import models_of_suite
from apo_soup.plan.check import check_recipe
from apo_soup.runs.makers import outputs_of_files
from apo_soup.training.entry import training_stage

ROWS = "dataset_mixture: {datasets: [{id: owner/rows}]}\n"
FILES = {
    "mid": ROWS,
    "sft": ROWS,
    "apo": ROWS,
    "data": "counts: {mid_think: 1}\nseed: 0\n",
    "pairs": "prompts: data/prompts.jsonl\nmode: think\nstrong: {model: sft}\nweak: {model: base}\nverifier: number\n",
    "merge": "soup: {members: all}\n",
    "eval": "tasks:\n- {name: a, kind: answer, data: data/a.jsonl}\n"
    "- {name: p, kind: preference, data: pairs/test.jsonl}\n",
}


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """Writes a recipe's folder, some of its files as they are given, and loads one of them."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "r"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / f"{name}.yaml").write_text(text)
    (folder / "recipe.yaml").write_text("name: mine\nmodel: owner/base\nchat_template: apo-soup\n")

    def loaded(name, *words, **texts):
        for file, text in texts.items():
            (folder / f"{file}.yaml").write_text(text)
        return load(folder / f"{name}.yaml", name.partition("_")[0].replace("mid", "sft"), words)

    return loaded


def test_files_take_what_follows_from_the_name_and_the_base(recipe, tmp_path):
    folders = {"mid": "mid", "sft": "sft", "apo": "apo", "data": "data", "pairs": "pairs", "merge": "", "eval": "evals"}
    for name, below in folders.items():
        assert recipe(name).output_dir == f"runs/mine/{below}".rstrip("/")
    begins = {name: recipe(name).model_name_or_path for name in ("mid", "sft", "apo")}
    assert begins == {"mid": "owner/base", "sft": "runs/mine/mid", "apo": "runs/mine/sft"}
    templates = {name: recipe(name).chat_template for name in ("mid", "sft", "apo", "eval")}
    assert templates == {"mid": "apo-soup", "sft": "apo-soup", "apo": None, "eval": "apo-soup"}
    assert recipe("eval").models == {
        "base": "owner/base", "mid": "runs/mine/mid", "sft": "runs/mine/sft", "apo": "runs/mine/apo/*",
        "soup": "runs/mine/soup",
    }  # fmt: skip
    assert [task.data for task in recipe("eval").tasks] == ["runs/mine/data/a.jsonl", "runs/mine/pairs/test.jsonl"]
    assert [source.id for source in recipe("pairs").prompts] == ["runs/mine/data/prompts.jsonl"]
    assert (recipe("pairs").strong.model, recipe("pairs").weak.model) == ("runs/mine/sft", "owner/base")
    assert len(list(outputs_of_files(tmp_path / "r"))) == len(FILES)


def test_with_a_long_context_stage_mid_begins_with_what_that_makes(recipe, tmp_path):
    (tmp_path / "r" / "extend.yaml").write_text(ROWS)
    extend, mid = load(tmp_path / "r" / "extend.yaml", "sft"), recipe("mid")
    assert (extend.model_name_or_path, extend.output_dir) == ("owner/base", "runs/mine/extend")
    assert extend.chat_template == "apo-soup"
    assert mid.model_name_or_path == "runs/mine/extend"
    assert list(recipe("eval").models) == ["base", "extend", "mid", "sft", "apo", "soup"]
    assert shared_keys(tmp_path / "r").named("extend") == "runs/mine/extend"
    assert order("sft") == ["data", "extend", "mid", "sft"]
    assert steps_needed(tmp_path / "r", "mid", []) >= {"extend", "mid"}
    assert recipe("mid", mid=f"model_name_or_path: base\n{ROWS}").model_name_or_path == "owner/base"
    assert "extend" not in steps_needed(tmp_path / "r", "mid", [])


def test_what_follows_is_what_one_would_write(recipe, tmp_path):
    """The values, those that decide, and a file on the command line's other words, are the same."""
    short = recipe("apo", "--beta", "0.2", apo="members: [{seed: 1}, {model_name_or_path: mid}]\n" + ROWS)
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "apo.yaml").write_text(
        "output_dir: runs/mine/apo\nmodel_name_or_path: runs/mine/sft\n"
        "members: [{seed: 1}, {model_name_or_path: runs/mine/mid}]\n" + ROWS
    )
    long = load(plain / "apo.yaml", "apo", ["--beta", "0.2"])
    for ours, theirs in zip(member_recipes(short), member_recipes(long), strict=True):
        assert ours.given_values() == theirs.given_values()
        assert ours.deciding_values() == theirs.deciding_values()
        assert ours.output_dir == theirs.output_dir == f"runs/mine/apo/{ours.member}"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("mid", "runs/mine/mid"), ("sft", "runs/mine/sft"), ("soup", "runs/mine/soup"), ("merged", "runs/mine/merged"),
        ("apo/1", "runs/mine/apo/1"), ("apo/2-at-0.5", "runs/mine/apo/2-at-0.5"), ("base", "owner/base"),
        ("mid/adapter", "runs/mine/mid/adapter"), ("apo/1/adapter", "runs/mine/apo/1/adapter"),
        ("apo/zero", "apo/zero"), ("owner/mid", "owner/mid"), ("apo", "apo"), ("mid/x", "mid/x"), ("./mid", "./mid"),
        ("runs/other/sft", "runs/other/sft"),
        ("data/model", "runs/mine/data/model"), ("traces/model", "traces/model"),
    ],
)  # fmt: skip
def test_a_stage_may_be_named_by_its_name(recipe, written, meant):
    """`traces/` leads into a stage only where the recipe has one: else it is anybody's folder, or an id."""
    assert recipe("apo", apo=f"model_name_or_path: {written}\n{ROWS}").model_name_or_path == meant
    assert recipe("sft", "--model_name_or_path", written).model_name_or_path == meant


def test_names_lead_where_the_files_of_the_stages_say(recipe):
    """A file that gives its folder itself is followed, also from a file that leaves its model out."""
    assert recipe("sft", mid=f"output_dir: runs/other/mid\n{ROWS}").model_name_or_path == "runs/other/mid"
    suite = recipe("eval", merge="output_dir: runs/third\nmerge: {merge_method: linear, models: [{model: soup}]}\n")
    assert suite.models["mid"] == "runs/other/mid"
    assert suite.models["merged"] == "runs/third/merged"
    assert "soup" not in suite.models, "the file asks for none"
    rows = recipe("eval", data="output_dir: runs/rows\ncounts: {mid_think: 1}\nseed: 0\n")
    assert rows.tasks[0].data == "runs/rows/a.jsonl"


def test_words_of_the_command_line_stand_over_what_follows(recipe):
    assert recipe("sft", "--output_dir", "runs/try/sft").output_dir == "runs/try/sft"
    assert recipe("sft", "--chat_template", "trl").chat_template == "trl"
    suite = recipe("eval", "--models.base", "owner/other", "--output_dir", "runs/try/evals")
    assert list(models_of_suite(suite)) == ["base", "mid", "sft", "soup"]
    assert suite.models["base"] == "owner/other"
    with pytest.raises(UserError, match=r"sft.yaml \(command line\): name: expected a known key or option"):
        load(suite.path.with_name("sft.yaml"), "sft", ["--name", "x"], ["--state"])


@pytest.mark.parametrize("model", ["mid", "apo/1", "data/model", "base"])
def test_the_base_model_is_never_a_stage_whatever_it_is_called(recipe, tmp_path, model):
    """It is looked for as any path: beside the recipe, then in the working directory."""
    (tmp_path / "r" / "recipe.yaml").write_text(f"name: mine\nmodel: {model}\n")
    assert recipe("mid").model_name_or_path == model
    assert recipe("eval").models["base"] == model
    assert recipe("mid", "--model_name_or_path", "sft").model_name_or_path == "runs/mine/sft"
    assert recipe("eval", "--models.base", "sft").models["base"] == "runs/mine/sft"
    assert recipe("sft", sft=f"model_name_or_path: base\n{ROWS}").model_name_or_path == model


def test_an_apo_file_that_begins_with_the_base_takes_its_template(recipe):
    assert recipe("apo", apo=f"model_name_or_path: base\n{ROWS}").chat_template == "apo-soup"
    assert recipe("apo", apo=f"model_name_or_path: owner/base\n{ROWS}").chat_template == "apo-soup"
    assert recipe("apo", apo=f"model_name_or_path: mid\n{ROWS}").chat_template is None
    assert recipe("apo", apo=f"chat_template: trl\n{ROWS}").chat_template == "trl"


def test_a_suite_of_a_server_takes_neither_models_nor_a_template(recipe):
    tasks = "tasks: [{name: a, kind: answer, data: data/a.jsonl}]\n"
    served = recipe("eval", eval=f"engine: openai\nendpoint: {{base_url: http://x/v1, model: m}}\n{tasks}")
    assert (served.models, served.chat_template) == (None, None)


def test_another_file_of_a_stage_makes_a_run_of_its_own(recipe):
    """As sft_b.yaml must not replace what sft.yaml makes; it begins with what the first files make."""
    other = recipe("sft_b", sft_b=ROWS)
    assert (other.output_dir, other.model_name_or_path) == ("runs/mine_b/sft", "runs/mine/mid")
    assert recipe("merge_b", merge_b=FILES["merge"]).output_dir == "runs/mine_b"


def test_a_file_or_model_with_the_name_of_a_stage_is_noted(recipe, tmp_path):
    (tmp_path / "r" / "data").mkdir()
    (tmp_path / "r" / "data" / "a.jsonl").write_text("{}\n")
    (tmp_path / "mid").mkdir()
    assert recipe("sft").notes == [], "a folder is no model"
    (tmp_path / "mid" / "config.json").write_text("{}")
    noted = recipe("apo", apo=f"model_name_or_path: mid\n{ROWS}").notes
    told = f"{tmp_path}/r/apo.yaml:1: model_name_or_path: mid is what the stage makes, runs/mine/mid, and not mid"
    assert told in noted
    rows = recipe("eval").notes
    assert rows[0].endswith(f"tasks.0.data: data/a.jsonl is what the stage makes, runs/mine/data/a.jsonl, and not "
                            f"{tmp_path}/r/data/a.jsonl")  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "recipe.yaml: expected a mapping of keys to values, got nothing"),
        ("model: a/b\n", "recipe.yaml: name: expected text, got nothing; add it\n"),
        ("name:\n", "recipe.yaml:1: name: expected text, got null"),
        ("name: [a]\n", 'recipe.yaml:1: name: expected text, got ["a"]'),
        ("name: true\n", "recipe.yaml:1: name: expected text, got true"),
        ("name: ''\n", "recipe.yaml:1: name: expected a name that a folder in runs/ can have, without / and no"),
        ("name: a/b\n", "recipe.yaml:1: name: expected a name that a folder in runs/ can have, without / and no"),
        ("name: ..\n", "recipe.yaml:1: name: expected a name that a folder in runs/ can have"),
        ("name: .hidden\n", "recipe.yaml:1: name: expected a name that a folder in runs/ can have"),
        ("name: ~\n", "recipe.yaml:1: name: expected text, got null"),
        ("name: '~me'\n", "recipe.yaml:1: name: expected a name that a folder in runs/ can have"),
        ("name: --x\n", "recipe.yaml:1: name: expected a name that a folder in runs/ can have"),
        (f"name: {'x' * 300}\n", "recipe.yaml:1: name: expected a path or an id, got 300 characters"),
        ('name: "a\\nb"\n', "recipe.yaml:1: name: expected a path or an id, got 'a\\nb', which no file can be called"),
        (
            "name: a\nmodell: b/c\n",
            "recipe.yaml:2: modell: expected a known key, got an unknown one; the nearest is model",
        ),
        (
            "name: a\nmodel_name_or_path: b/c\n",
            "recipe.yaml:2: model_name_or_path: expected a known key, got an unknown",
        ),
        ("name: a\nmodel: {x: 1}\n", 'recipe.yaml:2: model: expected text, got {"x": 1}; write'),
        ("name: a\nmodel: ''\n", "recipe.yaml:2: model: expected a folder or an id of the Hub, got none; name one"),
        ("name: a\nchat_template: 3.5.1: 2\n", "recipe.yaml"),
        ("- name: a\n", "recipe.yaml: expected a mapping of keys to values, got a list"),
        ("name: a\nname: b\n", "recipe.yaml:2: "),
        (
            "name: a\nlearning_rate: 1\n",
            "recipe.yaml:2: learning_rate: expected a known key, got an unknown one; remove",
        ),
    ],
)
def test_a_wrong_recipe_file_is_told_once_by_check_and_by_each_stage(recipe, tmp_path, text, told):
    (tmp_path / "r" / "recipe.yaml").write_text(text)
    (problem, *others) = [p for p in check_recipe(tmp_path / "r")[1] if "recipe.yaml" in p]
    assert f"{problem}\n".startswith(f"{tmp_path}/r/{told}"), problem
    assert others == []
    with pytest.raises(UserError) as error:
        recipe("sft")
    assert str(error.value) == problem


@pytest.mark.parametrize(
    ("stage", "model", "line"), [("sft", "sft", 1), ("apo", "apo/1", 1), ("mid", "mid/adapter", 1)]
)
def test_a_stage_that_begins_with_itself_is_told(recipe, tmp_path, stage, model, line):
    (tmp_path / "r" / f"{stage}.yaml").write_text(f"model_name_or_path: {model}\n{ROWS}")
    told = [p for p in check_recipe(tmp_path / "r")[1] if "which another" in p or "makes itself" in p]
    assert told == [
        f"{tmp_path}/r/{stage}.yaml:{line}: model_name_or_path: expected a model that another stage makes, or one that "
        f"is there, got runs/mine/{model}, which {stage}.yaml makes itself; name the one that it begins with"
    ]


@pytest.mark.parametrize("written", ["recipe.yml", "Recipe.yaml", "recipes.yaml", "recpie.yaml"])
def test_a_misspelt_recipe_file_is_told(recipe, tmp_path, written):
    (tmp_path / "r" / "recipe.yaml").rename(tmp_path / "r" / written)
    told = [p for p in check_recipe(tmp_path / "r")[1] if "expected the name of a stage's file" in p]
    assert len(told) == 1
    assert told[0].startswith(f"{tmp_path}/r/{written}: ")
    assert "which no stage reads; name it recipe.yaml" in told[0]


def test_sentences_about_what_follows_name_the_key_that_it_follows_from(recipe, tmp_path):
    (tmp_path / "runs" / "mine" / "mid").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "mid" / "notes.txt").write_text("mine")
    recipe_file = tmp_path / "r" / "recipe.yaml"
    recipe_file.write_text(recipe_file.read_text().replace("owner/base", "./nowhere").replace("apo-soup", "a.jinja"))
    told = check_recipe(tmp_path / "r")[1]
    for line, sentence in (
        (1, "name: expected an empty folder or one that the stage mid made, got runs/mine/mid with notes.txt"),
        (2, "model: expected a model folder, got ./nowhere, which is not there"),
        (3, "chat_template: expected apo-soup, trl, Jinja text, or a .jinja file, got 'a.jinja'"),
    ):
        assert any(one.startswith(f"{recipe_file}:{line}: {sentence}") for one in told), sentence


def test_a_folder_without_the_file_has_no_shared_keys(tmp_path):
    assert shared_keys(tmp_path) is None
    (tmp_path / "recipe.yaml").mkdir()
    assert shared_keys(tmp_path) is None


def test_a_folder_that_the_longer_spelling_made_is_current(tmp_path, monkeypatch, tiny_model, write_rows):
    """Every stage has the name, the folder and the fingerprint that the longer spelling gives it."""
    monkeypatch.chdir(tmp_path)
    rows = write_rows("rows.jsonl", [preference("a", "b", "c")])
    mixture = f"dataset_mixture: {{datasets: [{{id: {rows}}}]}}\n"
    longer, shorter = tmp_path / "longer", tmp_path / "shorter"
    for folder, stage, before in (
        (longer, "mid", tiny_model), (longer, "sft", "runs/mine/mid"), (longer, "apo", "runs/mine/sft"),
    ):  # fmt: skip
        folder.mkdir(exist_ok=True)
        template = "" if stage == "apo" else "chat_template: apo-soup\n"
        text = f"model_name_or_path: {before}\noutput_dir: runs/mine/{stage}\n{template}{mixture}"
        (folder / f"{stage}.yaml").write_text(text)
        shorter.mkdir(exist_ok=True)
        (shorter / f"{stage}.yaml").write_text(mixture)
        shutil.copytree(tiny_model, tmp_path / "runs" / "mine" / stage)
    (shorter / "recipe.yaml").write_text(f"name: mine\nmodel: {tiny_model}\nchat_template: apo-soup\n")
    weighed = "[{model: soup, parameters: {weight: 0.9}}, {model: mid, parameters: {weight: 0.1}}]"
    merge = f"soup: {{members: [sft]}}\nmerge: {{merge_method: linear, models: {weighed}}}\n"
    (longer / "merge.yaml").write_text(f"output_dir: runs/mine\n{merge.replace('[sft]', '[runs/mine/sft]')}")
    (shorter / "merge.yaml").write_text(merge.replace("[sft]", "[runs/mine/sft]"))
    made = {}
    for folder in (longer, shorter):
        stages = [training_stage(load(folder / f"{name}.yaml", "sft")) for name in ("mid", "sft")]
        stages += [training_stage(member) for member in member_recipes(load(folder / "apo.yaml", "apo"))]
        made[folder.name] = [(stage.name, stage.folder, stage.fingerprint) for stage in stages]
    assert made["shorter"] == made["longer"]
    assert [name for name, _, _ in made["shorter"]] == ["mid", "sft", "apo/1"]
    assert (
        load(shorter / "merge.yaml", "merge").deciding_values()
        == load(longer / "merge.yaml", "merge").deciding_values()
    )


def test_another_suite_has_a_folder_of_its_own(tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: small\nmodel: base\n")
    for name, folder in (("eval", "runs/small/evals"), ("tuning", "runs/small/evals-tuning")):
        (tmp_path / f"{name}.yaml").write_text("tasks: [{name: t, kind: loss, data: rows.jsonl}]\n")
        assert load(tmp_path / f"{name}.yaml", "eval").output_dir == folder
