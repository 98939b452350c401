"""The jobs that bring a recipe up to a stage: those of its programs that are missing or stale, and what each waits for.

A job is a program of `apo_soup/cli/steps.py`: of apo each member is a task of its job, of an evaluation each checkpoint
a job of its own, which waits for that checkpoint alone: of a member's for its task, whatever becomes of the others.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from apo_soup.cli.ask_state import StateAnswer, ask_state, in_sentences
from apo_soup.cli.order import is_asked_for, made_otherwise
from apo_soup.cli.reads import makers_of, steps_needed, steps_read
from apo_soup.cli.steps import STEPS, order, program_words
from apo_soup.config.apo import ApoFile
from apo_soup.config.eval import EvalFile
from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.runs.members import FOLDER, member_names, member_of_folder


@dataclass(frozen=True)
class Job:
    """A program to run on the cluster.

    Attributes:
        name: the stage, or `evals/MODEL`.
        words: what follows `python -m`.
        after: names of the jobs of the same chain that must have ended well, `apo/2` for one task of an array.
        members: the tasks of an array, each a soup member.
    """

    name: str
    stage: str
    words: tuple[str, ...]
    after: tuple[str, ...] = ()
    members: tuple[int, ...] = ()

    @property
    def launched(self) -> bool:
        """Whether it is a training, on all nodes of its job."""
        return STEPS[self.stage].launched


@dataclass
class Chain:
    """The jobs of a recipe, needs first, and what is to be said of the other stages."""

    recipe: Path
    jobs: list[Job] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def _names_of(self, stages: Iterable[str]) -> tuple[str, ...]:
        wanted = set(stages)
        return tuple(job.name for job in self.jobs if job.stage in wanted)

    def _waits_for(self, path: str) -> Iterator[str]:
        """What must have ended well before a checkpoint is there: before a member's, that member's task alone."""
        makers = makers_of(self.recipe, "eval", path)
        for job in (job for job in self.jobs if job.stage in makers):
            member = _member_at(self.recipe, path) if job.members else None
            if member is None:
                yield job.name
            elif member in job.members:
                yield f"{job.name}/{member}"

    def _add(self, stage: str, words: list[str], members: Iterable[int] = ()) -> None:
        after = self._names_of(steps_read(self.recipe, stage, words))
        own = _module_words(self.recipe, stage, words)
        self.jobs.append(Job(stage, stage, own, after, tuple(members)))

    def _asked(self, stage: str, words: list[str]) -> StateAnswer:
        """What the program says of its folders; what stands is told.

        Raises:
            UserError: it refuses.
        """
        state = ask_state(STEPS[stage], self.recipe, words)
        if state.refused:
            told = state.errors.strip() or in_sentences(state.said).strip()
            raise UserError(told.removeprefix("error: "))
        return state

    def add_stage(self, stage: str, words: list[str], last: bool) -> None:
        """Add the job of a stage, unless it is up to date and so is all that it reads.

        Raises:
            UserError: its program refuses, or a file of the recipe is wrong.
        """
        members = _members(self.recipe) if stage == "apo" and "--member" not in words else []
        if not self._names_of(steps_read(self.recipe, stage, words)):
            state = self._asked(stage, words)
            if not state.due:
                self.told.append(in_sentences(state.said).strip())
                return
            due = [one.stage for one in state.due]
            if not last:
                kept, due = made_otherwise(self.recipe, stage, state)
                self.told += [f"warning: {line}; later stages build on what is there" for line in kept]
                if not due:
                    return
            if members:
                members = sorted({member_of_folder(part.partition("/")[2]) for part in due})
        self._add(stage, words, members)

    def add_evaluations(self, words: list[str]) -> None:
        """Add a job for each checkpoint of the suite that is not evaluated, or will be made anew.

        Raises:
            UserError: the eval file is wrong, or its program refuses.
        """
        suite = load(self.recipe / STEPS["eval"].file, "eval", words)
        assert isinstance(suite, EvalFile)
        models = _models(suite, self.recipe)
        if not models:  # a served one
            self.add_stage("eval", words, last=True)
            return
        rows = self._names_of(steps_read(self.recipe, "eval", words) & {"data", "traces", "pairs"})
        waits = {name: tuple(self._waits_for(path)) for name, path in models.items()}
        there = [name for name in models if not waits[name]]
        due = set(models) - set(there)
        if there and not rows:
            only = [word for name in there for word in ("--only", name)]
            state = self._asked("eval", [*only, *words])
            due |= {one.stage.partition("/")[2] for one in state.due}
            done = [one for one in state.states if one.reason is None]
            self.told += [in_sentences([one]).strip() for one in done]
        for name in models:
            if name in due or rows:
                own = _module_words(self.recipe, "eval", ["--only", name, *words])
                self.jobs.append(Job(f"evals/{name}", "eval", own, (*rows, *waits[name])))


def chain_of(recipe: Path, stage: str, words: list[str]) -> Chain:
    """The jobs that are due up to a stage. Nothing is read that another job makes.

    Args:
        words: laid over the stage's own file.

    Raises:
        UserError: a file of the recipe is wrong, or a program refuses to say how its folder stands.
    """
    chain = Chain(recipe)
    needed = steps_needed(recipe, stage, words)
    for name in order(stage):
        if name not in needed or not (recipe / STEPS[name].file).is_file():
            continue
        if name != stage and not is_asked_for(recipe, name):
            continue
        own = words if name == stage else []
        if name == "eval":
            chain.add_evaluations(own)
        else:
            chain.add_stage(name, own, last=name == stage)
    return chain


def _module_words(recipe: Path, stage: str, words: list[str]) -> tuple[str, ...]:
    return tuple(program_words(STEPS[stage], recipe, words)[1:])


def _members(recipe: Path) -> list[int]:
    file = load(recipe / STEPS["apo"].file, "apo")
    assert isinstance(file, ApoFile)
    return sorted({member_of_folder(name) for name in member_names(file)})


def _member_at(recipe: Path, path: str) -> int | None:
    """The number of the member whose folder, or a part of it, a path is; None where it is none."""
    output = Path(load(recipe / STEPS["apo"].file, "apo").output_dir)
    below = Path(path).relative_to(output).parts if Path(path).is_relative_to(output) else ()
    return member_of_folder(below[0]) if below and FOLDER.fullmatch(below[0]) else None


def _models(suite: EvalFile, recipe: Path) -> dict[str, str]:
    """The models of a suite by name, with their folders; those of members that are still to be trained among them."""
    from apo_soup.evals.models_to_evaluate import models_of_suite

    models = {name: str(folder) for name, folder in models_of_suite(suite).items()}
    apo = load(recipe / STEPS["apo"].file, "apo") if (recipe / STEPS["apo"].file).is_file() else None
    for name, path in (suite.models or {}).items():
        if isinstance(apo, ApoFile) and path.endswith("/*") and Path(path[:-2]) == Path(apo.output_dir):
            models |= {f"{name}/{member}": f"{path[:-2]}/{member}" for member in member_names(apo)}
    return models
