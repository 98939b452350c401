"""What of the project's code makes a result stale."""

import ast
import importlib.util
import io
import tokenize

import pytest

from apo_soup.runs.code_hash import OUR_PACKAGES, PROJECT, all_statements, code_hash, modules_run
from apo_soup.runs.code_hash import deciding_text as text_of

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
    assert deciding_text(code) != deciding_text(code.replace("a + 1", "a + 2"))
    assert deciding_text(code) != deciding_text(code.replace("# no", "# a"))


def test_the_text_that_decides_is_the_code_of_every_module_and_nothing_else():
    for file in sorted(f for package in OUR_PACKAGES for f in (PROJECT / package).rglob("*.py")):
        source = file.read_text()
        kept = [t.string for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type in CODE]
        docstrings = [ast.get_source_segment(source, n) for n in ast.walk(ast.parse(source)) if is_text_alone(n)]
        for docstring in docstrings:
            kept.remove(docstring)
        text = deciding_text(source)
        # A body that was a docstring alone is left empty: such a text is compared, and never run.
        lines = "".join(text.split())
        assert lines == "".join("".join(kept).split()), file


def deciding_text(source):
    return text_of(source, all_statements(ast.parse(source)))


def is_text_alone(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def test_a_hash_is_the_same_every_time_and_follows_the_entry():
    assert code_hash("apo_soup.toy.build") == code_hash("apo_soup.toy.build")
    assert code_hash("apo_soup.toy.build") != code_hash("apo_soup.toy.words")
