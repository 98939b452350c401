"""What an evaluation shows of its tasks while they run."""

from apo_soup.evals.metrics import TaskResult, mean_metric
from apo_soup.evals.task_progress import TaskProgress

RESULT = TaskResult({"loss": mean_metric([0.25, 0.75], headline=True), "loss/think": mean_metric([1.0])})


def test_a_long_task_shows_how_far_it_is_and_tells_its_scores(capsys):
    progress = TaskProgress("evals/sft")
    progress.begin("loss", 1, 2)
    progress.count(40, "rows")
    progress._line.started -= 80
    progress._line._printed -= 80
    progress.at(20)
    progress._begun -= 80
    progress.end(RESULT)
    assert capsys.readouterr().out == (
        "evals/sft: loss (1 of 2): 20/40 rows  15/min  1:20 left\nevals/sft: loss (1 of 2): loss 0.500  (1:20)\n"
    )


def test_a_short_task_and_a_checkpoint_without_a_name_say_nothing(capsys):
    for progress, ago in ((TaskProgress("evals/sft"), 0), (TaskProgress(), 80)):
        progress.begin("loss", 1, 1)
        progress.count(40, "rows")
        progress._begun -= ago
        progress._line._printed -= ago
        progress.at(1)
        progress.end(RESULT)
    assert capsys.readouterr().out == ""
