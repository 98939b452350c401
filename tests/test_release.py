"""What a release carries: one version, a citation that says it, changes that begin with it."""

import re
import tomllib
from importlib.metadata import version

import pytest
import yaml
from helpers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_citation_is_whole_and_of_this_version():
    """By the Citation File Format 1.2.0: these keys must be there, and references need type, title and authors."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "type"} <= cited.keys()
    assert (cited["title"], str(cited["version"]), cited["license"]) == (
        PROJECT["name"],
        PROJECT["version"],
        PROJECT["license"],
    )
    for entry in (cited, *cited["references"]):
        assert {"type", "title", "authors"} <= entry.keys()
        assert all({"name"} & author.keys() or {"family-names"} & author.keys() for author in entry["authors"])


def test_the_version_stands_once_and_changes_begin_with_it():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == PROJECT["version"] == version("apo-soup")
    packages = [ROOT / name / "__init__.py" for name in ("apo_soup", "sft", "apo", "merge")]
    assert not any("__version__" in file.read_text() for file in packages), "it is the distribution's"


def steps(target: str) -> list[tuple[str, str]]:
    """The instructions of a target of the Dockerfile and of those that it is made from, as words and the rest."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())
    stages: dict[str, list[tuple[str, str]]] = {}
    for line in (line for line in text.splitlines() if line and not line.startswith("#")):
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            image, _, name = rest.split()
            stages[name] = current = [*stages.get(image, [(word, image)])]
        else:
            current.append((word, rest))
    return stages[target]


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_an_image_is_made_by_the_steps_of_the_readme_and_not_as_root(target):
    made = steps(target)
    assert made[0][0] == "FROM"
    python = re.search(r"python:(\d+\.\d+)-", made[0][1])
    assert python is not None
    assert f">={python[1]}," in PROJECT["requires-python"]
    setup = [n for n, (word, rest) in enumerate(made) if word == "RUN" and rest.endswith("make setup")]
    users = [n for n, (word, _) in enumerate(made) if word == "USER"]
    assert len(setup) == 1
    assert [made[n][1] for n in users] == ["soup"]
    assert users[0] < setup[0]
    assert "make demo" in (ROOT / "README.md").read_text()


def test_an_image_holds_what_git_does_and_no_secret():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert not [name for name in kept if not (ROOT / name).exists()]
    assert {"runs", "data", ".venv", ".git", ".cache"}.isdisjoint(kept)
    words = (ROOT / "Dockerfile").read_text()
    assert not re.search(r"(?i)(token|secret|password|api_key)\s*=", words)
