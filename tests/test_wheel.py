"""What `pip install` puts down, and that it works far from the checkout, beside other packages."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from helpers import ROOT, TRAINING, chat

PACKAGES = ("apo_soup", "sft", "apo", "merge")


def ran(*words: object, cwd: Path) -> str:
    """Run a command that must succeed, with nothing of the checkout in its path; returns what it printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment = kept | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    result = subprocess.run([*map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what git holds of the project, so that building leaves nothing in the checkout."""
    folder = tmp_path_factory.mktemp("source")
    for name in (*PACKAGES, "recipes", "bench", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source) -> Path:
    """The wheel, built from the source archive, as a package index has them."""
    ran(sys.executable, "-m", "build", "--no-isolation", "--outdir", source / "dist", source, cwd=source)
    return next((source / "dist").glob("*.whl"))


def environment_with(folder: Path, *what: object) -> Path:
    """Make a virtual environment that borrows the third-party packages of this one and has `what` of ours.

    Returns:
        The folder of its programs.
    """
    ran(sys.executable, "-m", "venv", "--without-pip", folder, cwd=ROOT)
    programs = folder / "bin"
    site = Path(
        ran(programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    )
    # A folder that a .pth file adds is searched; the .pth files in it, such as our editable install, are not read.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    quiet = ("install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    ran(sys.executable, "-m", "pip", "--python", programs / "python", *quiet, *what, cwd=folder)
    return programs


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory) -> Path:
    """Programs of an environment in which the wheel is installed."""
    return environment_with(tmp_path_factory.mktemp("environment"), wheel)


def test_a_wheel_holds_four_packages_with_recipes_and_template(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert {f"apo_soup/{f.relative_to(ROOT)}" for f in (ROOT / "recipes").rglob("*") if f.is_file()} <= set(names)
    assert {"accelerate", "smollm2-135m", "smollm3", "tiny"} <= {n.split("/")[2] for n in names if "/recipes/" in n}
    templates = {f for f in (ROOT / "apo_soup" / "templates").rglob("*") if f.is_file()}
    assert {str(f.relative_to(ROOT)) for f in templates} <= set(names)
    code = {str(f.relative_to(ROOT)) for package in PACKAGES for f in (ROOT / package).rglob("*.py")}
    assert code == {name for name in names if name.endswith(".py")}


def test_an_installed_wheel_checks_previews_and_trains(programs, tmp_path, write_rows, write_recipe):
    python, apo_soup = programs / "python", programs / "apo-soup"
    where = (
        "import apo_soup.resources as r, sft, apo, merge; print(r.__file__, sft.__file__, apo.__file__, merge.__file__)"
    )
    assert all(str(programs.parent) in file for file in ran(python, "-c", where, cwd=tmp_path).split())
    shipped = Path(
        ran(python, "-c", "from apo_soup.resources import recipe_folder as f; print(f('tiny'))", cwd=tmp_path).strip()
    )
    assert programs.parent in shipped.parents
    assert "no error" in ran(apo_soup, "check", "tiny", cwd=tmp_path)
    assert "--config FILE" in ran(python, "-m", "sft", "--help", cwd=tmp_path)

    ran(python, "-m", "apo_soup.toy", "--config", shipped / "data.yaml", cwd=tmp_path)
    base = ("--model_name_or_path", shipped / "base")
    preview = ran(apo_soup, "preview", "--config", shipped / "sft.yaml", *base, "--rows", "1", cwd=tmp_path)
    assert "tokens trained]" in preview

    rows = write_rows("rows.jsonl", [chat(f"{n} + 1?", f"It is {n + 1}.", False) for n in range(20)])
    values = TRAINING | {"model_name_or_path": str(shipped / "base"), "chat_template": "apo-soup"}
    values |= {
        "output_dir": "trained",
        "dataset_mixture": {"datasets": [{"id": str(rows)}]},
        "assistant_only_loss": True,
    }
    ran(python, "-m", "sft", "--config", write_recipe("sft.yaml", values), "--max_steps", "3", cwd=tmp_path)
    assert (tmp_path / "trained" / "model.safetensors").is_file()
    assert '"global_step": 3' in (tmp_path / "trained" / "trainer_state.json").read_text()


def test_an_editable_install_finds_the_recipes_of_the_checkout(source, tmp_path):
    programs = environment_with(tmp_path / "environment", "--editable", source)
    where = "import apo_soup.resources as r; print(r.shipped_recipes())"
    assert ran(programs / "python", "-c", where, cwd=tmp_path).strip() == str(source / "recipes")
    assert "no error" in ran(programs / "apo-soup", "check", "tiny", cwd=tmp_path)
    names = ("bench", "tests", "evals", "pipeline", "corpus")
    found = f"from importlib.util import find_spec as f; print([n for n in {names} if f(n)])"
    assert ran(programs / "python", "-c", found, cwd=tmp_path).strip() == "[]"
