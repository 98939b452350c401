"""The documentation: every link leads somewhere, every file it names is there, every command is one that is taken."""

import json
import re
import shlex
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import typer
import yaml
from helpers import ROOT, python

from apo_soup.cli.app import app
from apo_soup.config.kinds import stage_of_file
from apo_soup.config.load import load

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
# What the site can be led to: headings down to the level that docs/conf.py names.
HEADING = re.compile(r"^#{1,4} +(.+?) *#*$", re.MULTILINE)
# A command stands alone on an indented line; what follows two spaces and a hash is a remark.
COMMAND = re.compile(r"^    (?:\.venv/bin/)?((?:make|apo-soup|python -m|accelerate launch) .*)$", re.MULTILINE)
# A command within a sentence; brackets around what may be left out.
INLINE = re.compile(r"`(?:\.venv/bin/)?((?:make|apo-soup|python -m|pip install)(?: [^`]+)?)`")
# Folders and files that a reader brings.
BROUGHT = ("recipes/mine", "mine/", "data/", "owner/name", "OWNER/NAME", "FILE", "DIR", "RECIPE", "gsm8k_", "$SMALL")
# What `apo-soup new` writes in the pages.
NEW_RECIPE = "mine"
FOLDERS = "apo_soup|sft|apo|merge|recipes|tests|bench|docs"
NAMED_FILE = re.compile(rf"`((?:{FOLDERS})/[\w./-]+\.(?:py|md|yaml|json|jinja|toml))`")


def commands():
    for page in PAGES:
        if page.is_file():
            for found in COMMAND.finditer(page.read_text()):
                yield pytest.param(re.split(r"\s{2,}#", found[1])[0].strip(), id=f"{page.name}: {found[1][:60]}")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_named_files_lead_somewhere(page):
    text = page.read_text()
    for target, anchor in LINK.findall(text):
        if not target.startswith(("http://", "https://", "mailto:")):
            file = page.parent / target if target else page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), f"{target}#{anchor}"
    for name in NAMED_FILE.findall(text):
        assert (ROOT / name).exists(), name


def anchors(page: Path) -> list[str]:
    """What the headings of a page are named in links, by GitHub and by the site."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    found: Counter[str] = Counter()
    names = []
    for heading in HEADING.findall(text):
        told = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w -]", "", told.lower()).replace(" ", "-")
        names.append(f"{name}-{found[name]}" if found[name] else name)
        found[name] += 1
    return names


def test_links_to_headings_are_read_as_github_names_them(tmp_path):
    page = tmp_path / "a.md"
    page.write_text(
        "# A `b.py` page: it's [here](x.md)\n## Two, three\n```\n# no heading\n```\n## Two, three\n##### Deep\n"
    )
    assert anchors(page) == ["a-bpy-page-its-here", "two-three", "two-three-1"]


@pytest.mark.parametrize("command", list(commands()))
def test_every_command_is_one_that_is_taken(command):
    words = shlex.split(command)
    if words[0] == "make":
        check_make(words[1:])
    elif words[0] == "apo-soup":
        check_console(words[1:])
    else:
        while words[0] != "-m":
            words.pop(0)
        check_module(words[1:], command)


def inline_commands():
    found = {(page, command) for page in PAGES for command in INLINE.findall(page.read_text())}
    for page, command in sorted(found):
        yield pytest.param(command.replace("\\|", "|"), id=f"{page.name}: {command}")


@pytest.mark.parametrize("command", list(inline_commands()))
def test_every_command_in_a_sentence_is_one_that_is_there(command):
    """It may be cut short, so what must follow is not asked for."""
    words = shlex.split(re.sub(r"[][|]|\.\.\.", " ", command)) if "pip" not in command else shlex.split(command)
    options = [word.partition("=")[0] for word in words if re.fullmatch(r"--[a-z][\w.-]*(=.*)?", word)]
    if words[0] == "make":
        if words[1:]:
            check_make(words[1:])
    elif words[0] == "apo-soup" and words[1:]:
        group = typer.main.get_command(app)
        known = group if words[1] == "COMMAND" or words[1].startswith("--") else group.commands[words[1]]
        taken = {name for parameter in known.params for name in parameter.opts} | {"--help", "--debug"}
        assert known.ignore_unknown_options or set(options) <= taken
    elif words[0] == "python":
        module = words[2].replace(".", "/")
        files = [*(ROOT / module).glob("*.py"), *(ROOT / module).parent.glob(f"{Path(module).name}.py")]
        assert files or words[2] == "pytest"
        code = "".join(file.read_text() for file in files)
        assert all(option in ("--config", "--help") or f'"{option}"' in code for option in options)
    elif words[0] == "pip":
        extras = re.findall(r"\[(.*)\]", words[2])
        assert words[2].startswith("apo-soup")
        assert set(extras) <= set(
            tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        )


def check_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    target, *settings = words
    assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make has no target {target}"
    for setting in settings:
        name, _, value = setting.partition("=")
        assert f"$({name})" in makefile or f"$(if $({name})" in makefile, f"make reads no {name}"
        if name in ("RECIPE", "LAUNCH") and not value.startswith(BROUGHT):
            assert (ROOT / value).exists(), value


def check_console(words: list[str]) -> None:
    """The console script takes these words: an unknown option or a missing argument would raise."""
    group = typer.main.get_command(app)
    if words[0].startswith("--"):
        assert words[0] in {name for parameter in group.params for name in parameter.opts}
        return
    command = group.commands[words[0]]
    words = ["recipes/tiny" if word == NEW_RECIPE and words[0] != "new" else word for word in words]
    context = command.make_context(words[0], list(words[1:]))
    for value in (context.params.get("config"), context.params.get("recipe")):
        if value is not None and not str(value).startswith(BROUGHT):
            assert (ROOT / value).exists(), value


def check_module(words: list[str], command: str) -> None:
    module, *rest = words
    assert (ROOT / module.replace(".", "/")).is_dir() or (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
    if "--config" in rest and not any(b in command for b in BROUGHT):
        file = ROOT / rest[rest.index("--config") + 1]
        assert file.is_file(), file
        kind = stage_of_file(file)
        if kind and module in ("sft", "apo", "apo.pairs"):
            place = rest.index("--config")
            overrides = [w for w in rest[:place] + rest[place + 2 :] if w not in ("--member", "2")]
            load(file, kind, overrides)
        else:
            assert isinstance(yaml.safe_load(file.read_text()), dict)


def test_the_list_of_files_is_todays():
    result = python(ROOT / "docs" / "files.py", "--check")
    assert result.returncode == 0, result.stdout


def test_the_page_of_programs_is_todays():
    result = python(ROOT / "docs" / "programs.py", "--check")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_index_lists_every_page_once():
    """Sphinx tells a page that no table of contents names; `make site` is not run here."""
    listed = re.findall(r"^- \[[^\]]+\]\(([\w-]+\.md)\): \S", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(page.name for page in (ROOT / "docs").glob("*.md") if page.name != "index.md")


def test_the_table_of_templates_is_todays_and_no_cell_is_wrong():
    result = python(ROOT / "docs" / "templates.py", "--check")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_notebook_is_kept_without_outputs_and_its_cells_are_python():
    """Outputs would be of one machine, and stale with the next change; CI runs it behind the demo (`make notebook`)."""
    book = json.loads((ROOT / "notebooks" / "tiny.ipynb").read_text())
    assert book["metadata"].keys() <= {"kernelspec", "language_info"}
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 6
    for cell in book["cells"]:
        assert cell["metadata"] == {}
        assert not re.search(r"(?:/home|/root|/tmp|/Users)/", "".join(cell["source"]))
    for cell in cells:
        assert (cell["outputs"], cell["execution_count"]) == ([], None)
        compile("".join(cell["source"]), cell["id"], "exec")
