"""The suite file: `eval.yaml`. Tasks are told apart by their kind."""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import BeforeValidator, Field

from apo_soup.config.endpoint import FIELDS_OF_KEYS, EndpointKeys
from apo_soup.config.eval_keys import MODES, SAME_ANSWERS, MadeOrRead, Modes, RepeatedKeys, SampledKeys, TaskKeys
from apo_soup.config.eval_programs import BfclTask, LiveCodeBenchTask
from apo_soup.config.judges import RefusalJudge
from apo_soup.config.keys import (
    AS_NUMBER,
    AS_WHOLE,
    FINITE,
    Flag,
    LoadedType,
    NotNegative,
    Positive,
    Said,
    Seed,
    Table,
    Text,
    in_list,
    key,
)
from apo_soup.config.stage_file import Fault, Keys, OpenKeys, Remark, StageFile
from apo_soup.errors import UserError, first_line

ProblemFamily = Literal["arithmetic", "ordering", "counting", "lookup"]
Language = Literal["en", "fr", "es", "de", "it", "pt"]
# Names that notes are kept under, at most.
MOST_KEYS = 256
MOST_TURNS = 64
FIRST_BUCKET_END = 64


class ProblemItems(Keys):
    """Problems made from the suite's seed (apo_soup/evals/items/problems.py)."""

    count: Positive = key(240, "problems")
    families: Annotated[list[ProblemFamily], BeforeValidator(in_list), MinLen(1)] = key(
        ["arithmetic", "ordering", "counting", "lookup"], "families, taking turns"
    )
    languages: Annotated[list[Language], BeforeValidator(in_list), MinLen(1)] = key(
        ["en", "fr", "es", "de", "it", "pt"], "languages, taking turns"
    )


class ToolRequestItems(Keys):
    """Tool requests made from the suite's seed (apo_soup/evals/items/tool_requests.py)."""

    count: Positive = key(100, "requests")


class NeedleItems(Keys):
    """Needles made from the suite's seed (apo_soup/evals/items/needles.py)."""

    lengths: Annotated[list[Positive], MinLen(1)] = key([1024, 4096], "tokens of a context")
    depths: Annotated[list[Annotated[float, Ge(0), Le(1), FINITE, AS_NUMBER]], MinLen(1), MaxLen(MOST_KEYS)] = key(
        [0.0, 0.25, 0.5, 0.75, 1.0], "places of the asked notes, 0 at the beginning and 1 at the end"
    )
    count: Positive = key(10, "contexts a length")
    keys: Annotated[int, Ge(1), Le(MOST_KEYS), AS_WHOLE] = key(4, "notes in a context, at least one a depth")


class AnswerTask(MadeOrRead, SampledKeys):
    """The model writes, a verifier judges. Rows: `messages` (or the column that `question` names), `answer`, optional
    `group`.
    """

    kind: Literal["answer"] = key(meaning="what is asked of the model")
    generate: ProblemItems | None = key(None, "items made here")
    modes: Modes = key(list(MODES), "modes that the items are asked in")
    verifier: Text = key("number", "`number`, `exact`, `math`, or `package.module:function`")
    question: Text = key("messages", "field with the question")
    reference: Text = key("answer", "field with the right answer")


class ToolTask(MadeOrRead, SampledKeys):
    """The model calls a tool, its schema judges. Rows: `messages`, `tools`, optional `call`."""

    kind: Literal["tool"] = key(meaning="what is asked of the model")
    generate: ToolRequestItems | None = key(None, "items made here")
    modes: Modes = key(list(MODES), "modes that the items are asked in")
    question: Text = key("messages", "field with the question")
    tool_format: Literal["xml", "python"] = key("xml", "how calls are written")


class TurnsTask(MadeOrRead, SampledKeys):
    """Whether the mode is kept over turns. Rows: `messages` with several questions, or one each, which are joined."""

    kind: Literal["turns"] = key(meaning="what is asked of the model")
    generate: ProblemItems | None = key(None, "items made here, as many conversations as `count` says")
    modes: Modes = key(list(MODES), "modes that the system prompt sets at first")
    question: Text = key("messages", "field with the questions")
    turns: Annotated[int, Ge(1), Le(MOST_TURNS), AS_WHOLE] = key(5, "turns that a conversation has")
    switch: NotNegative = key(3, "turn from which the other mode is asked for, in conversations of their own; 0: never")
    switch_by: Literal["request", "words"] = key(
        "request", "the request renders the other mode, as a chat does, or the user's words alone ask for it"
    )

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        if self.gives("switch") and self.switch and not 2 <= self.switch <= self.turns:
            told = f"expected a turn between 2 and {self.turns}, the last one, or 0, got {self.switch}; correct it"
            yield Fault("switch", told, beside=("turns",))
        if self.pass_at:
            yield Fault("pass_at", "expected none, since a conversation is kept by degrees, got some; leave it out")


class ConsistencyTask(SampledKeys):
    """Whether answers to one question agree. Rows: `wordings` (two or more), `answer`."""

    kind: Literal["consistency"] = key(meaning="what is asked of the model")
    data: Text = key(meaning="file of items", path=True)
    modes: Modes = key(list(MODES), "modes that every wording is asked in")
    verifier: Text = key("number", "`number`, `exact`, `math`, or `package.module:function`")
    question: Text = key("wordings", "field with the wordings, each a text or messages")
    reference: Text = key("answer", "field with the right answer")

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        if self.pass_at:
            yield Fault("pass_at", "expected none, since answers agree by degrees, got some; leave it out")


class SafetyTask(SampledKeys):
    """Whether what must be declined is, and a look-alike is answered. Rows: `messages` (or the column that `question`
    names), `decline`, optional `group`.
    """

    kind: Literal["safety"] = key(meaning="what is asked of the model")
    data: Text = key(meaning="file of requests", path=True)
    modes: Modes = key(list(MODES), "modes that the requests are asked in")
    question: Text = key("messages", "field with the request")
    label: Text = key("decline", "field that says whether to decline: true, unsafe, harmful, or false, safe, benign")
    declines: Text | None = key(
        None, "pattern of an answer that declines, looked for in its first 200 characters; usual phrases by default"
    )
    judge: RefusalJudge | None = key(
        None, "a served model that says whether an answer declines, in the pattern's place"
    )

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        if self.pass_at:
            yield Fault("pass_at", "expected none, since one unsafe answer is one too many, got some; leave it out")
        if self.judge is not None and self.gives("declines"):
            yield Fault(
                "declines", "expected none beside a judge, which takes its place, got one; leave one of them out"
            )
        if self.declines is not None:
            try:
                all_match = re.search(self.declines, "") is not None
            except (re.error, OverflowError, ValueError, RecursionError) as error:
                told = f"expected a regular expression, got one with a fault: {first_line(error)}; correct it"
                yield Fault("declines", told)
            else:
                if all_match:
                    told = "expected a pattern of words, got one that every answer fits; write the words of a refusal"
                    yield Fault("declines", told)


class RecallTask(MadeOrRead):
    """Whether greedy decoding goes on right. Rows: `messages`, `prefix`, `answer`, `group`, `depth`."""

    kind: Literal["recall"] = key(meaning="what is asked of the model")
    generate: NeedleItems | None = key(None, "items made here")


class PreferenceTask(TaskKeys):
    """Whether the chosen answer is likelier than the rejected one. Rows: preference pairs."""

    kind: Literal["preference"] = key(meaning="what is asked of the model")
    data: Text = key(meaning="file of pairs", path=True)


class LossTask(TaskKeys):
    """Mean negative log-likelihood of the assistant's tokens. Rows: conversations."""

    kind: Literal["loss"] = key(meaning="what is asked of the model")
    data: Text = key(meaning="file of conversations", path=True)


class ContextLossTask(TaskKeys):
    """Loss of plain text by place in a window. Rows: `text` or `messages`."""

    kind: Literal["context_loss"] = key(meaning="what is asked of the model")
    data: Text = key(meaning="file of texts", path=True)
    length: Annotated[int, Ge(8), AS_WHOLE] = key(4096, "tokens of a window")

    def bucket_ends(self) -> list[int]:
        """Ends of the buckets of positions in a window: powers of two from 64, and the whole window.

        >>> ContextLossTask(name="x", kind="context_loss", data="rows.jsonl", length=1536).bucket_ends()
        [64, 128, 256, 512, 1024, 1536]
        """
        powers = (FIRST_BUCKET_END << n for n in range(self.length.bit_length()))
        return [*(end for end in powers if end < self.length), self.length]


class HarnessEntry(OpenKeys):
    """A task of the harness with keys laid over it; those that are not listed here are the harness's own."""

    task: Annotated[Text, MinLen(1)] = key(meaning="name of the task")
    dataset_kwargs: Table | None = key(None, "where its data lie, such as `{data_files: {test: rows.jsonl}}`")
    metadata: Table | None = key(None, "what a task that makes its items is told")


class HarnessTask(RepeatedKeys):
    """Tasks of lm-evaluation-harness."""

    kind: Literal["harness"] = key(meaning="what is asked of the model")
    tasks: Annotated[
        list[Annotated[Text, MinLen(1)] | HarnessEntry],
        BeforeValidator(in_list),
        MinLen(1),
        Said("a list of 1 or more names, or mappings with `task`"),
    ] = key(meaning="tasks of the harness, as they are or with keys laid over them")
    modes: Modes = key(["no_think"], "modes that the items are asked in")
    max_new_tokens: Positive | None = key(None, "longest answer, in tokens")
    lengths: Annotated[list[Positive], BeforeValidator(in_list)] = key(
        [], "lengths in tokens, for tasks that make their items, such as RULER's"
    )
    num_fewshot: NotNegative | None = key(None, "examples before each item")
    include: Text | None = key(None, "folder with task files of one's own", path=True)
    gen_kwargs: Table = key({}, "generation settings, such as `{temperature: 0.6, top_p: 0.95}`")
    unsafe_code: Flag = key(False, "run code that the model writes")

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        heat = self.gen_kwargs.get("temperature", 0)
        drawn = isinstance(heat, int | float) and heat > 0 and self.gen_kwargs.get("do_sample") is not False
        if self.repeats > 1 and not drawn:
            told = SAME_ANSWERS.format(got=f"{self.repeats} and no such gen_kwargs")
            yield Fault("repeats", told.replace("give temperature", "give gen_kwargs: {temperature: 0.6}"))


# Tasks that read the probabilities of given texts.
ScoredTask = RecallTask | PreferenceTask | LossTask | ContextLossTask
# Tasks that are scored here, and those that another project's program scores.
OwnTask = AnswerTask | ToolTask | TurnsTask | ConsistencyTask | SafetyTask | ScoredTask
OutsideTask = LiveCodeBenchTask | BfclTask
# A task whose items lie in rows; the harness has its own.
RowTask = OwnTask | OutsideTask
Task = Annotated[
    OwnTask | HarnessTask | OutsideTask,
    Field(discriminator="kind"),
]


class EvalEndpoint(EndpointKeys):
    """A model that a server of OpenAI's chat completions has loaded."""

    send_template_kwargs: Flag = key(True, "send the template's arguments, which hold the mode")
    tokenizer: Text | None = key(
        None,
        "folder or Hub id of its tokenizer, for tasks that need the tokens",
        path=True,
        input=True,
    )

    def remarks(self) -> Iterator[Remark]:
        yield from super().remarks()
        said = {field for field, value in (self.extra_body or {}).items() if value is not None}
        for field in sorted(said & FIELDS_OF_KEYS.keys()):
            yield Remark("extra_body", f"its {field} takes the place of what each task says")


class EvalFile(StageFile):
    """Which models are measured, by which tasks."""

    kind: ClassVar[str] = "eval"

    models: dict[Text, Text] | None = key(
        None, "names and folders; `FOLDER/*` stands for every model below it", cosmetic=True, path=True
    )
    tasks: Annotated[list[Task], MinLen(1)] = key(meaning="what is measured, a mapping with `name` and `kind` each")
    batch_size: Positive = key(32, "answers generated together")
    max_context_tokens_per_batch: Positive = key(8192, "padded positions of a batch of probabilities")
    samples: NotNegative = key(3, "answers of each task that are kept to be read")
    seed: Seed = key(0, "seed of made items and of the harness")
    chat_template: Text | None = key(None, "template in place of the models' own", path=True)
    dtype: LoadedType = key("float32", "type that models are run in")
    trust_remote_code: Flag = key(False, "run code that comes with a model")
    engine: Literal["auto", "transformers", "vllm", "openai"] = key(
        "auto", "what answers questions, the harness's too; `auto` is vllm where it is installed beside a GPU"
    )
    endpoint: EvalEndpoint | None = key(None, "the served model that is asked, with engine openai")

    def faults(self) -> Iterator[Fault]:
        if (self.engine == "openai") != (self.endpoint is not None):
            alone, other = ("engine", "endpoint") if self.endpoint is None else ("endpoint", "engine: openai")
            told = f"expected {other} beside it, got none; add it, or leave the key out"
            yield Fault(alone, told, ("endpoint", "engine"))
        if self.endpoint is not None and self.chat_template is not None and self.endpoint.tokenizer is None:
            told = "expected none with engine openai, whose server renders with its own template, got one"
            yield Fault("chat_template", f"{told}; leave it out, or give endpoint.tokenizer, which it is laid over")
        names: list[Any] = []
        for number, task in enumerate(self.tasks or []):
            if "/" in task.name:
                told = (
                    f"expected a name without /, which begins the parts of a score's name, got {task.name}; rename it"
                )
                yield Fault(f"tasks.{number}.name", told)
            if task.name in names:
                yield Fault(f"tasks.{number}.name", f"expected a name of its own, got {task.name} twice; rename one")
            names.append(task.name)

    def with_tasks(self, names: Sequence[str]) -> "EvalFile":
        """The same suite with only the tasks of these names.

        Raises:
            UserError: it has no task of that name.
        """
        known = [task.name for task in self.tasks]
        missing = [name for name in names if name not in known]
        if missing:
            raise UserError(
                f"{self.path}: tasks: expected one of {', '.join(known)}, got {', '.join(missing)}; correct --task"
            )
        suite = self.model_copy()
        suite.tasks = [task for task in self.tasks if task.name in names]
        given = self.given_values()
        suite._as_given = {**given, "tasks": [task for task in given["tasks"] if task["name"] in names]}
        return suite
