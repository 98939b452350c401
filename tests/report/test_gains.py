"""What a run gained, and that in a sentence."""

from apo_soup.report.gains import ends_of_run, figures_first, gains_between, told_in_a_sentence
from apo_soup.report.run_files import read_run


def test_the_verdict_counts_what_rose_and_names_what_fell(run):
    files = read_run(run)
    before, after = ends_of_run(files)
    assert (before.name, after.name) == ("base", "merged")
    gains = gains_between(before, after, files.titles)
    told = told_in_a_sentence(gains, before.name, after.name)
    assert told == "Merged is better than base in 1 of 5 scores, worse in none, within noise in 4."
    soup = gains_between(files.by_name["base"], files.by_name["sft"], files.titles)
    assert "worse in 2 (recall 1536, preference)" in told_in_a_sentence(soup, "base", "sft")
    assert told_in_a_sentence([], "a", "b").startswith("b and a were not asked the same items")


def test_the_first_figures_are_chosen_by_kind_and_not_by_score(run):
    files = read_run(run)
    assert figures_first(files.by_name["merged"], files.titles) == ["problems/think", "preference", "needle/1536"]
    own = {"needle/128": "recall 128", "problems/no_think": "no think"}
    assert set(figures_first(files.by_name["merged"], own)) == set(own), "only what has a title"
