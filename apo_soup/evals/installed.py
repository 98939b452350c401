"""What a suite asks for by its keys and this machine may not have. No torch: `check` asks too."""

from importlib.util import find_spec

from apo_soup.config.eval import EvalFile, HarnessTask, SafetyTask, ScoredTask
from apo_soup.errors import UserError
from apo_soup.models.endpoint.packages import require_endpoint_packages


def require_vllm(suite: EvalFile) -> bool:
    """Whether vLLM is installed.

    Raises:
        UserError: it is not, and the suite asks for it.
    """
    installed = find_spec("vllm") is not None
    if suite.engine == "vllm" and not installed:
        raise UserError(
            f"{suite.place('engine')}: expected vLLM to be installed, got no such package; pip install 'apo-soup[vllm]'"
        )
    return installed


def require_harness(suite: EvalFile, task: HarnessTask) -> None:
    """Refuse a task of the harness where that is not installed.

    Raises:
        UserError: it is not.
    """
    if find_spec("lm_eval") is None:
        raise UserError(
            f"{suite.place(f'{task.dotted}.kind')}: expected the package lm-eval for a task of the harness, got none; "
            "pip install 'apo-soup[eval]'"
        )


def require_packages(suite: EvalFile) -> None:
    """Refuse a suite that asks for a package, other than vLLM, which is not here.

    Raises:
        UserError: naming it.
    """
    if suite.endpoint is not None:
        require_endpoint_packages(suite.place("engine"))
    for task in suite.tasks:
        if isinstance(task, HarnessTask):
            require_harness(suite, task)
        elif isinstance(task, SafetyTask) and task.judge is not None:
            require_endpoint_packages(suite.place(f"{task.dotted}.judge"))


def require_served_tokenizer(suite: EvalFile) -> None:
    """Refuse a task that reads the probabilities of given texts of a served model whose tokens are not known.

    Raises:
        UserError: naming the first.
    """
    scored = next((task for task in suite.tasks if isinstance(task, ScoredTask)), None)
    if scored is not None and suite.endpoint is not None and suite.endpoint.tokenizer is None:
        raise UserError(
            f"{suite.place('endpoint.tokenizer')}: expected one for task {scored.name} of kind {scored.kind}, which "
            "reads the probabilities of given texts, got none; name the folder or Hub id of the served model's "
            "tokenizer, or name the other tasks with --task"
        )
