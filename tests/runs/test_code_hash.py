"""What of the project's code makes a result stale."""

import ast
import importlib.util
import io
import tokenize

import pytest

from apo_soup.runs.code_hash import OUR_PACKAGES, PROJECT, code_hash, imported, module_file, modules_run
from apo_soup.runs.code_hash import deciding_text as texts_of

ENTRIES = [
    "apo_soup.data.prepare",
    "apo_soup.evals.program",
    "apo_soup.toy.build",
    "apo.pairs.make",
    "apo.pairs.engines.transformers",
    "apo.reference_pass",
    "merge.sweep.walk",
]

# Kinds of token that a program is made of.
CODE = {tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING}


@pytest.mark.parametrize("entry", ENTRIES)
def test_rows_depend_on_their_own_code_and_not_on_the_toy_a_preview_or_a_report(entry):
    modules = modules_run(entry)
    assert entry in modules
    assert not [m for m in modules if m.startswith(("apo_soup.report", "apo_soup.cli", "apo_soup.plan"))]
    assert "apo_soup.data.preview" not in modules
    assert entry == "apo_soup.toy.build" or not any(m.startswith("apo_soup.toy") for m in modules)
    for module in modules:  # names of modules, not of what lies in them
        assert importlib.util.find_spec(module), module


def test_a_module_that_is_imported_inside_a_function_counts():
    assert "apo_soup.data.encode_pairs" in modules_run("apo_soup.data.prepare")
    assert "apo_soup.evals.harness.task" in modules_run("apo_soup.evals.program")
    assert {"apo.attention_mask", "apo.scoring", "apo.losses"} <= modules_run("apo.reference_pass")
    assert {"apo_soup.verify.numbers", "apo.pairs.judge"} <= modules_run("apo.pairs.make")


def test_comments_docstrings_and_empty_lines_decide_nothing():
    code = 'x = "# no comment"  # one\n\n\ndef f(a):\n    """Says ä\n    little."""\n    # why\n    return a + 1\n'
    assert deciding_text(code) == 'x = "# no comment"\n\ndef f(a):\n\n    return a + 1\n'.replace("\n\n", "\n").rstrip()
    assert deciding_text("é = 1; 'said'; y = 2  # ü\n") == "é = 1; ; y = 2"
    assert deciding_text('r"""a\\d"""\nx = f(\n    "a"\n)\n"b".join(x)\n') == 'x = f(\n    "a"\n)\n"b".join(x)'
    assert deciding_text(code) != deciding_text(code.replace("a + 1", "a + 2"))
    assert deciding_text(code) != deciding_text(code.replace("# no", "# a"))


def test_what_decides_is_the_code_of_every_module_and_all_it_imports_as_python_reads_them():
    for file in sorted(f for package in OUR_PACKAGES for f in (PROJECT / package).rglob("*.py")):
        source = file.read_text()
        tree = ast.parse(source)
        docstrings = {(n.lineno, n.col_offset) for n in ast.walk(tree) if is_text_alone(n)}
        tokens = [t for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type in CODE]
        kept = [t.string for t in tokens if t.start not in docstrings]
        text = deciding_text(source)
        # A body that was a docstring alone is left empty: such a text is compared, and never run.
        lines = "".join(text.split())
        assert lines == "".join("".join(kept).split()), file
        names, found = names_imported(tree), set(imported(texts_of(source)[1]))
        assert {n for n in names if n.split(".")[0] in OUR_PACKAGES and module_file(n)} <= found, file
        assert found <= {".".join(n.split(".")[:k]) for n in names for k in range(1, 9)}, file


def names_imported(tree):
    """The modules, and what may be modules, that code imports wherever it does, but for a type checker alone."""
    only_for_types = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    passed_over = {id(n) for branch in only_for_types for part in branch.body for n in ast.walk(part)}
    names = set()
    for node in (n for n in ast.walk(tree) if id(n) not in passed_over):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def deciding_text(source):
    return texts_of(source)[0]


def is_text_alone(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def test_a_hash_is_the_same_every_time_and_follows_the_entry():
    assert code_hash("apo_soup.toy.build") == code_hash("apo_soup.toy.build")
    assert code_hash("apo_soup.toy.build") != code_hash("apo_soup.toy.words")
