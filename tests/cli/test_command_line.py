"""What is told of a mistake on the command line: one sentence of our shape, and exit code 2."""

import pytest
from helpers import ROOT

CONFIG = ["--config", str(ROOT / "recipes" / "tiny" / "sft.yaml")]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["check"],
            "apo-soup check: expected RECIPE (recipe folder, or the name of a shipped one: tiny), got nothing; add it",
        ),
        (
            ["compare", "a"],
            "apo-soup compare: expected B (folder or results.json of the model after), got nothing; add it",
        ),
        (
            ["eval"],
            "apo-soup eval: expected --config FILE (stage file, such as recipes/tiny/sft.yaml), got nothing; add it",
        ),
        (["eval", "--config"], "apo-soup eval: expected --config FILE, got no value; add it"),
        (
            ["chekc", "tiny"],
            "apo-soup: expected one of new, check, plan, why, clean, preview, prepare, submit, run, sweep, eval, "
            "compare, report, chat, ui, export, push, got chekc; the nearest is check",
        ),
        (
            ["xyz", "--help"],
            "apo-soup: expected one of new, check, plan, why, clean, preview, prepare, submit, run, sweep, eval, "
            "compare, report, chat, ui, export, push, got xyz; see apo-soup --help",
        ),
        (
            ["run", "tiny", "--lanch", "x"],
            "apo-soup run: expected an option of --launch, --args, --quiet, --json, --help, got --lanch; "
            "the nearest is --launch",
        ),
        (["check", "tiny", "-x"], "apo-soup check: expected an option of --launch, --help, got -x; leave it out"),
        (
            ["--jsn", "check"],
            "apo-soup: expected an option of --version, --install-completion, --show-completion, --help, got --jsn; "
            "leave it out",
        ),
        (["report", "tiny", "--json=3"], "apo-soup report: expected --json alone, got a value; leave it out"),
        (
            ["check", "tiny", "my", "recipe"],
            "apo-soup check: expected RECIPE, got unexpected extra argument(s) (my recipe); "
            "leave them out, or quote a path that holds spaces",
        ),
        (
            ["preview", *CONFIG, "--rows", "x"],
            "apo-soup preview: --rows: expected a whole number of 1 or more, got x; write it in digits",
        ),
        (
            ["preview", *CONFIG, "--rows", "0"],
            "apo-soup preview: --rows: expected a whole number of 1 or more, got 0; raise it to 1 or more",
        ),
        (
            ["chat", "m", "--max_new_tokens", "1.5"],
            "apo-soup chat: --max_new_tokens: expected a whole number of 1 or more, got 1.5; round it",
        ),
        (
            ["compare", "a", "b", "--fail-below", "x"],
            "apo-soup compare: --fail-below: expected a number, got x; write it in digits",
        ),
        (
            ["compare", "a", "b", "--fail-below", "nan"],
            "--fail-below: expected a number of 0 or less, such as -0.02, got nan; correct it",
        ),
        (
            ["run", "my", "recipes/tiny", "too"],
            "run my recipes/tiny too: expected [STAGE] RECIPE, got 3 words; quote a path that holds spaces",
        ),
        (
            ["run", "stf", "tiny"],
            "run stf tiny: expected a stage of data, extend, mid, sft, traces, pairs, apo, soup, merge, sweep, eval, "
            "settings, got stf; correct it",
        ),
        (
            ["run", "tiny", "--args", "'"],
            "--args ': expected words as a shell reads them, got No closing quotation; close the quotation",
        ),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(apo_soup, words, sentence):
    result = apo_soup(*words)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"error: {sentence}\n")


def test_the_name_alone_prints_the_help(apo_soup):
    alone = apo_soup()
    assert alone.returncode == 2
    assert "Usage: apo-soup [OPTIONS] COMMAND [ARGS]..." in alone.stdout
    assert alone.stdout.split() == apo_soup("--help").stdout.split()
