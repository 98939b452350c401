"""What an engine is, and which one a side of the recipe names.

An engine answers the prompts that are not answered yet and hands over what is finished as it goes. Libraries are
imported where they are used: a run against an endpoint needs neither torch nor transformers, and starts in a second.
"""

from collections.abc import Callable, Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from apo.pairs.journal import Answer
from apo.pairs.prompts import Prompt
from apo.pairs.side import AskedSide
from apo_soup.config.endpoint import EndpointKeys
from apo_soup.config.judges import RewardJudge
from apo_soup.config.sides import VllmSide
from apo_soup.errors import UserError
from apo_soup.models.architecture import require_reward_model
from apo_soup.models.endpoint.packages import require_endpoint_packages

# Takes answers as an engine finishes them.
KeepAnswers = Callable[[list[Answer]], None]


class Engine(Protocol):
    """Answers prompts with `candidates` completions each."""

    def answer(self, prompts: list[Prompt], done: Collection[str], keep: KeepAnswers) -> None:
        """Answer the prompts whose ids are not in `done`; `keep` is called with every group that is finished."""

    def close(self) -> None:
        """Give back the memory of the model, before the other side's is loaded."""


def require_installed_engine(side: AskedSide) -> None:
    """Check that a side's engine is installed, before the other side has been asked for hours.

    Raises:
        UserError: a package that the engine needs is not there, or the judge is no reward model.
    """
    require_engine(side.keys, side.where)
    if isinstance(side.keys, RewardJudge) and Path(side.keys.model).is_dir():
        require_reward_model(Path(side.keys.model), f"{side.where}.model")


def require_engine(keys: Any, where: str) -> None:
    """The same of a side's keys, or a judge's, that stand at `where`.

    Raises:
        UserError: a package that the engine needs is not there.
    """
    if isinstance(keys, VllmSide) and find_spec("vllm") is None:
        raise UserError(
            f"{where}.engine: expected an installed engine, got vllm, which is not here; pip install "
            "'apo-soup[vllm]' in an environment of its own, or take engine transformers or openai"
        )
    if isinstance(keys, EndpointKeys):
        require_endpoint_packages(f"{where}.engine")


def make_engine(side: AskedSide) -> Engine:
    """The engine that a side names, with its model loaded.

    Raises:
        UserError: the model cannot be loaded, or the engine's package is not installed.
    """
    keys = side.keys
    if isinstance(keys, EndpointKeys):
        from apo.pairs.engines.endpoint import EndpointEngine

        return EndpointEngine(side, keys)
    if isinstance(keys, VllmSide):
        from apo.pairs.engines.vllm import VLLMEngine

        return VLLMEngine(side, keys)
    if isinstance(keys, RewardJudge):
        from apo.pairs.engines.reward import RewardEngine

        return RewardEngine(side, keys)
    from apo.pairs.engines.transformers import TransformersEngine

    return TransformersEngine(side, keys)
