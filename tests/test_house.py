"""The house as a whole: imports run one way, no public name stands twice, what is imported is declared."""

import ast
import doctest
import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from helpers import ROOT
from own_code import PACKAGES, is_command, sources, tree_of

from apo_soup.config.load import KINDS, file_model
from apo_soup.config.stage_file import Keys

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LINT = (
    sys.executable,
    "-c",
    "from importlinter.cli import lint_imports_command as lint; lint()",
    "--no-cache",
    "--no-logo",
)


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Hold the packages below `folder` against the contract in its pyproject.toml."""
    return subprocess.run(LINT, cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(folder)})


def test_imports_run_one_way():
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("file", "line", "path"),
    [
        ("apo_soup/errors.py", "def later():\n    import apo_soup.cli.order", "apo_soup.errors -> apo_soup.cli.order"),
        ("merge/linear.py", "from sft import train", "merge.linear -> sft.train"),
        ("apo_soup/hashing.py", "import apo_soup.tables", "apo_soup.hashing -> apo_soup.tables"),
    ],
)
def test_an_import_against_the_order_is_found(file, line, path, tmp_path):
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a") as wrong:
        wrong.write(f"\n\n{line}\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1
    assert path in " ".join(result.stdout.split())


def test_every_room_stands_in_the_order():
    """A module that no layer names would not be held by the contract."""
    layers = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    named = {name for layer in layers for name in re.split(r"\s*[|:]\s*", layer)}
    modules = {f"apo_soup.{entry.stem}" for entry in (ROOT / "apo_soup").iterdir() if entry.suffix == ".py"}
    rooms = {f"apo_soup.{entry.parent.name}" for entry in (ROOT / "apo_soup").glob("*/__init__.py")}
    assert named == (modules - {"apo_soup.__init__"}) | rooms | {"sft", "apo", "merge"}


# Tests of a whole room, of several, or of the tests themselves.
OF_WHOLE_ROOMS = {
    "test_docs.py", "test_house.py", "test_hub.py", "test_mutations.py", "test_portable.py",
    "test_programs.py", "test_refusals.py", "test_release.py", "test_torture.py", "test_wheel.py",
    "data/test_public_rows.py", "training/test_fsdp.py", "training/test_interrupted.py",
    "training/test_quantised_base.py", "training/test_shared_rows.py",
    "training/test_trained_adapters.py",
}  # fmt: skip


def has_module(file: str) -> bool:
    """Whether a file of `tests/`, such as `apo/test_trainer_logs.py`, is about a module that is there: its name is the
    module's, here `apo/trainer.py`, with or without a subject behind it.
    """
    path = Path(file)
    words = path.stem.removeprefix("test_").split("_")
    names = ["_".join(words[:end]) for end in range(len(words), 0, -1)]
    folders = [ROOT / "apo_soup" / path.parent, *([ROOT / path.parent] if path.parent.parts else [])]
    return any(
        (folder / module).is_file()
        for folder in folders
        for name in names
        for module in (f"{name}.py", f"{name}/__init__.py", f"__{name}__.py")
    )


def test_tests_mirror_the_tree():
    files = {str(file.relative_to(ROOT / "tests")) for file in (ROOT / "tests").rglob("test_*.py")}
    assert len(files) > 200
    alone = {file for file in files if not has_module(file)}
    assert alone == OF_WHOLE_ROOMS
    assert not has_module("apo_pairs/test_choice.py")
    assert not has_module("evals/test_harnessed.py")


def defined_names(tree: ast.Module) -> Iterator[str]:
    """Names that a module defines at its top level; commands of the console script are not among them."""
    for node in tree.body:
        decorated = isinstance(node, ast.FunctionDef) and any(map(is_command, node.decorator_list))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not decorated:
            yield node.name
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            elements = target.elts if isinstance(target, ast.Tuple) else [target]
            yield from (element.id for element in elements if isinstance(element, ast.Name))


def test_no_file_is_longer_than_400_lines():
    long = {file: len(file.read_text().splitlines()) for file in sources(*PACKAGES, "tests", "bench", "docs")}
    assert not {str(file.relative_to(ROOT)): lines for file, lines in long.items() if lines > 400}


def test_no_public_name_stands_in_two_modules():
    """Only programs share `main`."""
    homes = defaultdict(list)
    for file in sources(*PACKAGES):
        for name in set(defined_names(tree_of(file))):
            if not name.startswith("_") and name != "main":
                homes[name].append(str(file.relative_to(ROOT)))
    twice = {name: files for name, files in sorted(homes.items()) if len(files) > 1}
    assert not twice, "\n".join(f"{name}: {', '.join(files)}" for name, files in twice.items())


def module_file(module: str) -> Path | None:
    """The file of a module of ours, or None where there is none."""
    path = ROOT / module.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def test_what_bench_imports_is_there():
    """Nothing else runs these files often enough to notice that a function was renamed."""
    wrong = []
    for file in sources("bench"):
        for node in ast.walk(tree_of(file)):
            if not isinstance(node, ast.ImportFrom) or (node.module or "").partition(".")[0] not in PACKAGES:
                continue
            home = module_file(str(node.module))
            body = ast.parse(home.read_text()) if home else ast.Module([], [])
            there = {
                name for part in ast.walk(body) if isinstance(part, ast.ImportFrom | ast.Import) for name in bound(part)
            }
            there |= {part.name for part in body.body if hasattr(part, "name")} | set(defined_names(body))
            for alias in node.names:
                if alias.name not in there and module_file(f"{node.module}.{alias.name}") is None:
                    wrong.append(f"{file.relative_to(ROOT)}:{node.lineno}: {node.module} has no {alias.name}")
    assert not wrong, "\n".join(wrong)


def bound(node: ast.ImportFrom | ast.Import) -> list[str]:
    """Names that an import binds."""
    return [alias.asname or alias.name for alias in node.names]


def distribution_names(requirements: list[str]) -> set[str]:
    """Normalised names of the distributions that requirements such as `lm-eval[ruler]>=0.4` ask for."""
    return {canonical(re.split(r"[\[<>=~!; ]", requirement)[0]) for requirement in requirements}


def canonical(name: str) -> str:
    """A distribution's name as indexes compare them."""
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(folders: tuple[str, ...]) -> dict[str, set[str]]:
    """Third-party modules that the files import, inside of functions too, and the files that do."""
    own = {*PACKAGES, "bench", *(file.stem for file in (ROOT / "tests").glob("*.py"))}
    found = defaultdict(set)
    for file in sources(*folders):
        for node in ast.walk(tree_of(file)):
            names = [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for top in {name.partition(".")[0] for name in names} - own - sys.stdlib_module_names:
                found[top].add(str(file.relative_to(ROOT)))
    return found


# Modules of extras that `make setup` leaves out, with the distributions that they come in.
NOT_INSTALLED = {"llama_cpp": "llama-cpp-python"}


@pytest.mark.parametrize("folders", [PACKAGES, ("tests", "bench")], ids=["packages", "tests"])
def test_everything_that_is_imported_is_declared(folders):
    extras = PROJECT["project"]["optional-dependencies"]
    asked = [*PROJECT["project"]["dependencies"]]
    asked += [one for name, extra in extras.items() if name != "dev" or folders != PACKAGES for one in extra]
    declared, homes = distribution_names(asked), packages_distributions()
    hidden = {}
    for module, files in imported(folders).items():
        # An extra that is not installed here is declared under its module's name, or a known one.
        distributions = {canonical(name) for name in homes.get(module, [NOT_INSTALLED.get(module, module)])}
        if not distributions & declared:
            hidden[module] = sorted(files)
    assert not hidden


def test_every_declared_package_is_pinned():
    pins = distribution_names([line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line])
    extras = PROJECT["project"]["optional-dependencies"]
    asked = [*PROJECT["project"]["dependencies"], *(one for name in extras for one in extras[name])]
    # vLLM brings a torch of its own and is installed by hand.
    assert distribution_names(asked) - pins == {"apo-soup", "vllm"}


def public_functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """The public functions of a module, and the public methods of its public classes."""
    for node in tree.body:
        inside = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else [node]
        yield from (f for f in inside if isinstance(f, ast.FunctionDef) and not f.name.startswith("_"))


def test_no_warning_is_left_out_whatever_it_says():
    """A filter names the words, and whose they are."""
    filters = PROJECT["tool"]["pytest"]["ini_options"]["filterwarnings"]
    assert filters[0].startswith("error:::(apo_soup|")
    assert all(re.match(r"ignore:.+:\w+Warning:\w+", each) for each in filters[1:])
    for file in sources("tests"):
        blanket = re.search(r"filterwarnings\(\"(?!ignore:.+|error).*", file.read_text())
        assert blanket is None, f"{file.relative_to(ROOT)}: {blanket}"


def test_no_key_of_a_recipe_is_asked_for_by_a_text():
    """Keys are attributes, those of libraries too; what takes them all at once takes what was given."""
    by_text = re.compile(
        r"""model_dump\(include=|getattr\((\w+\.)*(recipe|suite|keys|side|task),|(given|deciding)_values\(\)(\[|\.get\()"""
    )
    of_all = re.compile(r"^ *((?:\w+, )*\w+) = .*\b(?:given|deciding)_values\(\)$", re.MULTILINE)
    for file in sources(*PACKAGES):
        text = file.read_text()
        found = [by_text.search(text)]
        if not file.is_relative_to(ROOT / "apo_soup" / "config"):
            names = {name for line in of_all.findall(text) for name in line.split(", ")}
            found += [re.search(rf"""\b{name}(\[['"]|\.get\()""", text) for name in names]
        assert not any(found), f"{file.relative_to(ROOT)}: {found}"


def test_no_text_file_depends_on_the_locale():
    """A machine's locale decides the encoding where a call does not; hashes and pages must not depend on it."""
    files = (file for file in sources(*PACKAGES) if re.search(r"(read|write)_text\(|\bopen\(", file.read_text()))
    for file in files:
        for call in (node for node in ast.walk(tree_of(file)) if isinstance(node, ast.Call)):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            given = {keyword.arg for keyword in call.keywords}
            modes = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            # An opener of libraries names itself so too: `gzip.open`, `os.open`.
            own = name == "open" and ast.unparse(call.func) in ("open", "path.open", "file.open", "self.path.open")
            if name in ("read_text", "write_text") or (own and not any("b" in mode[:4] for mode in modes)):
                assert "encoding" in given, f"{file.relative_to(ROOT)}:{call.lineno}: {ast.unparse(call)}"


def declared_keys(keys: type[Keys]) -> set[str]:
    """The keys of a mapping of stage files, and of all kinds of it."""
    return set(keys.model_fields).union(*map(declared_keys, keys.__subclasses__()))


def test_every_key_that_is_asked_after_is_one():
    """Whether a key was given is asked by its name, and one that is misspelt was never given."""
    for kind in KINDS:
        file_model(kind)
    known, seen = declared_keys(Keys), 0
    for file in sources(*PACKAGES):
        for node in ast.walk(tree_of(file)):
            match node:
                case ast.Call(func=ast.Attribute(attr="gives" | "differs" | "written"), args=[ast.Constant(value=key)]):
                    seen += 1
                    assert key in known, f"{file.relative_to(ROOT)}:{node.lineno}: {key}"
    assert seen > 30


def has_tensors(annotation: ast.expr | None) -> bool:
    """Whether a type is that of tensors, or of several."""
    return annotation is not None and re.search(r"\bTensor\b", ast.unparse(annotation)) is not None


def test_shapes_of_tensors_stand_in_docstrings():
    """As `[B, S]`, or in words: of any shape. A method's may stand in its class's."""
    silent, seen = [], 0
    for file in sources(*PACKAGES):
        tree = tree_of(file)
        classes = {method: node for node in tree.body if isinstance(node, ast.ClassDef) for method in node.body}
        for function in public_functions(tree):
            types = [argument.annotation for argument in (*function.args.args, *function.args.kwonlyargs)]
            if not any(map(has_tensors, (*types, function.returns))):
                continue
            seen += 1
            told = ast.get_docstring(function) or "an override's shapes stand with the method: `[]`"
            told += ast.get_docstring(classes[function]) or "" if function in classes else ""
            if not re.search(r"\[|\bshapes?\b", told):
                silent.append(f"{file.relative_to(ROOT)}:{function.lineno}: {function.name}")
    assert seen > 50
    assert not silent, "\n".join(silent)


def modules_with_examples() -> list[str]:
    """Modules whose docstrings hold examples."""
    files = [file for file in sources(*PACKAGES) if ">>> " in file.read_text()]
    return [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]


@pytest.mark.parametrize("module", modules_with_examples())
def test_examples_in_docstrings_are_true(module):
    results = doctest.testmod(importlib.import_module(module))
    assert results.failed == 0
    assert results.attempted > 0
