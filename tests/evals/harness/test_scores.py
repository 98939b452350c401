"""Our metrics of the harness's results."""

from apo_soup.evals.harness.scores import metrics_of_outcomes, metrics_of_results, values_by_metric


def test_items_are_kept_where_the_harness_means_their_mean():
    samples = [
        {"filter": f, "metrics": ["acc", "4096", "8192"], "acc": a, "4096": -1.0, "8192": 0.5}
        for f, a in (("none", True), ("none", False))
    ]
    values = values_by_metric(samples)
    assert values == {("acc", "none"): [1.0, 0.0], ("8192", "none"): [0.5, 0.5]}

    def metric(aggregate):
        found = metrics_of_outcomes(
            "m", [[1.0], [0.0]], [{"acc,none": aggregate, "acc_stderr,none": 0.1}], "acc,none", "higher", True, ()
        )
        return found["m"]

    kept = metric(0.5)
    assert (kept.score.value, list(kept.items)) == (0.5, [True, False])
    corpus = metric(0.8)
    assert corpus.items is None
    assert (corpus.score.value, round(corpus.score.low, 3)) == (0.8, 0.604)


def test_a_group_has_one_headline_over_the_items_of_its_tasks():
    def sample(value):
        return {"filter": "none", "metrics": ["acc"], "acc": value, "doc_hash": "x"}

    results = {
        "samples": {"g_a": [sample(1.0), sample(0.0)], "g_b": [sample(1.0)], "alone": [sample(0.0)]},
        "results": {},
        "group_subtasks": {"g": ["sub"], "sub": ["g_a", "g_b"], "alone": []},
    }
    metrics = metrics_of_results("mmlu", [results], by_length=False)
    assert [name for name, metric in metrics.items() if metric.headline] == ["mmlu/alone/acc", "mmlu/g"]
    assert list(metrics["mmlu/g"].items) == [1.0, 0.0, 1.0]
    assert metrics["mmlu/g"].score.high < 1, "Wilson's interval, which knows the ends"
    results["higher_is_better"] = {name: {"acc": False} for name in ("g_a", "g_b", "alone")}
    turned = metrics_of_results("mmlu", [results], by_length=False)
    assert {m.better for m in turned.values()} == {"lower"}


def test_several_passes_give_avg_and_pass_over_items():
    def one(*values):
        return {
            "samples": {"aime25": [{"filter": "none", "metrics": ["em"], "em": v} for v in values]},
            "results": {"aime25": {"em,none": sum(values) / len(values)}},
        }

    passes = [one(1, 0, 0), one(1, 1, 0), one(1, 0, 0), one(1, 0, 0)]
    metrics = metrics_of_results("aime/think", passes, by_length=False, pass_at=[1, 2, 4])
    label = "aime/think/aime25/em"
    assert list(metrics) == [f"{label}/avg@4", f"{label}/pass@1", f"{label}/pass@2", f"{label}/pass@4"]
    assert list(metrics[f"{label}/avg@4"].items) == [1.0, 0.25, 0.0]
    assert list(metrics[f"{label}/pass@2"].items) == [1.0, 0.5, 0.0]
    assert list(metrics[f"{label}/pass@4"].items) == [True, True, False]
    assert all(m.score.n == 3 and m.headline for m in metrics.values())
    corpus = [p | {"results": {"aime25": {"em,none": 0.9}}} for p in passes]
    (told,) = metrics_of_results("aime", corpus, by_length=False).values()
    assert (told.score.value, told.score.low, told.items) == (0.9, None, None)
