"""What a release carries: one version, a citation that says it, changes that begin with it."""

import re
import tomllib
from importlib.metadata import version

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
