"""What a stage's program says of a folder that it makes: a sentence for people, a line of JSON for programs."""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError


class FolderState(BaseModel):
    """Whether a folder is up to date, and who is at work on it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    stage: str
    folder: str
    # Why it is to be made; None where it is up to date.
    reason: str | None
    worker: str | None = None

    def sentence(self, due: str = "stale") -> str:
        """For people; `due` is what a folder that is not up to date is called."""
        if self.reason is None:
            return f"{self.stage}: up to date, skipped ({self.folder} was made from the same configuration and inputs)"
        worker = f"; at work on it: {self.worker}" if self.worker else ""
        return f"{self.stage}: {due}, because {self.reason}{worker}"


@dataclass(frozen=True)
class StepState:
    """What a step of a recipe says of all its folders.

    Attributes:
        step: its name.
        lines: what it says, for people.
        errors: what its program wrote to stderr.
        code: the exit code of a program that could not say it, else 0.
        stale: whether a folder is missing or stale, or waits for another step.
    """

    step: str
    lines: list[str]
    errors: str = ""
    code: int = 0
    stale: bool = False


def states_said(output: str) -> list[FolderState | str]:
    """The lines of a program that was asked with `--state-json`: the states, and whatever else it says, as it is.

    >>> states_said('{"stage": "sft", "folder": "runs/x/sft", "reason": null}')[0].sentence()
    'sft: up to date, skipped (runs/x/sft was made from the same configuration and inputs)'
    >>> states_said("sweep: not asked for")
    ['sweep: not asked for']
    """
    return [_state(line) for line in output.splitlines()]


def _state(line: str) -> FolderState | str:
    try:
        return FolderState.model_validate_json(line)
    except ValidationError:
        return line
