"""Chat templates: Jinja in a sandbox, with the `{% generation %}` marks given back as spans of characters.

The environment is the one transformers gives to templates (sandboxed and immutable, `tojson` without HTML escapes,
`raise_exception`, loop controls). It differs in three things. The clock that a template may ask (`strftime_now`) stands
still at the date the recipe gives, so a row has the same tokens on any day. And marks are written into the text as two
control characters and taken out again, where transformers calls a macro for each, which costs a third of the time.
What could run for ever or fill the memory is bounded: ranges, products, and the time of a row.
"""

import json
from collections.abc import Callable
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any

import jinja2
from jinja2 import meta
from jinja2.ext import Extension, loopcontrols
from jinja2.runtime import Context
from jinja2.sandbox import MAX_RANGE, ImmutableSandboxedEnvironment

from apo_soup.data.conversations.turn_order import order_remedy
from apo_soup.data.rendering.time_limit import MOST_GROWTH, OutOfRoom, OutOfTime, TimeLimit
from apo_soup.data.rendering.turn_marks import CLOSE, HELD_OTHERS, OPEN, WRITTEN, with_turn_marks, without_turn_marks
from apo_soup.data.sources.rows import RowError, described
from apo_soup.errors import UserError, first_line

Span = tuple[int, int]
# Seconds for one row; a template takes a thousandth of one.
TIME_LIMIT = 60
LARGEST_EXPONENT = 1000
PINNED_DATE = "01 July 2025"


class GenerationMarks(Extension):
    """`{% generation %}...{% endgeneration %}` as its body between two control characters."""

    tags = {"generation"}  # noqa: RUF012 - the name and the type are jinja2's

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        """The nodes of one block, as jinja2 asks an extension for them."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        marks = [jinja2.nodes.Output([jinja2.nodes.TemplateData(c)]).set_lineno(line) for c in (OPEN, CLOSE)]
        return [marks[0], jinja2.nodes.Scope(body).set_lineno(line), marks[1]]


class ChatTemplate:
    """A compiled template; `marked` says whether it holds generation marks.

    Raises:
        jinja2.TemplateError: the text is not a template.
    """

    def __init__(self, text: str):
        self.text = text
        self.marked = "endgeneration" in text
        self._reads_clock = "strftime_now" in text
        self._limit = TimeLimit(TIME_LIMIT)
        self._compiled = _compiled(text)

    @cached_property
    def reads(self) -> frozenset[str]:
        """The names that the template asks its caller for."""
        return frozenset(meta.find_undeclared_variables(_environment().parse(self.text)))

    def __reduce__(self) -> tuple[type, tuple[str]]:
        """How it is pickled: worker processes compile the text anew."""
        return ChatTemplate, (self.text,)

    def render(self, messages: list[dict[str, Any]], arguments: dict[str, Any]) -> tuple[str, list[Span]]:
        """The text of a conversation and the spans its marks enclose, in order; marks inside marks do not count.

        Raises:
            RowError: what the template itself complains of, or a text that has our control characters.
            UserError: it does not end.
        """
        text = self._text(self._compiled, messages, arguments)
        if not self.marked:
            return text, []
        first, *marked = text.split(OPEN)
        parts, spans, end = [first], [], len(first)
        for piece in marked:
            inside, closed, outside = piece.partition(CLOSE)
            if not closed or CLOSE in outside:
                raise RowError(HELD_OTHERS)
            spans.append((end, end + len(inside)))
            end += len(inside) + len(outside)
            parts += (inside, outside)
        return "".join(parts), spans

    def render_turns(self, messages: list[dict[str, Any]], arguments: dict[str, Any]) -> tuple[str, list[Span]]:
        """The text of a conversation and what the template's own loops write of each assistant turn, in order: its
        header, what it says, and its end.

        Raises:
            RowError: as `render` does.
            UserError: as `render` does.
        """
        written: list[str] = []
        text = self._text(self._compiled_with_turns, messages, {**arguments, WRITTEN: written})
        return without_turn_marks(text, written)

    @cached_property
    def _compiled_with_turns(self) -> jinja2.Template:
        return _compiled_with_turns(self.text)

    def _text(self, compiled: jinja2.Template, messages: list[dict[str, Any]], arguments: dict[str, Any]) -> str:
        given = {"tools": None, "documents": None, "add_generation_prompt": False, **arguments, "messages": messages}
        if self._reads_clock:
            given["strftime_now"] = _fixed_clock(arguments.get("date_string") or PINNED_DATE)
        try:
            with self._limit:
                try:
                    return "".join(compiled.root_render_func(compiled.new_context(given)))
                except OutOfTime:
                    raise
                except Exception as error:  # a template may fail in any way that its expressions can
                    complaint = first_line(error).rstrip(".;")
                    told = f"expected a row that it takes, got a refusal: {complaint}"
                    raise RowError(f"chat_template: {told}; {order_remedy(messages, None, complaint)}") from error
        except OutOfTime as error:
            raise unending_template(error) from None


def unending_template(error: OutOfTime) -> UserError:
    """What a rendering that met its limit says."""
    if isinstance(error, OutOfRoom):
        return UserError(
            "chat_template: expected a template that writes no more than a row holds, got one that took more than "
            f"{MOST_GROWTH / 2**30:g} GiB over a row; look for loops in loops"
        )
    return UserError(
        f"chat_template: expected a template that ends, got one that is not done with a row after {TIME_LIMIT} "
        "seconds; look for loops in loops"
    )


# A program asks for few templates, each many times; to compile one takes longer than to render a hundred rows.
@lru_cache(maxsize=16)
def _compiled(text: str) -> jinja2.Template:
    return _with_one_mapping(_environment().from_string(text))


@lru_cache(maxsize=16)
def _compiled_with_turns(text: str) -> jinja2.Template:
    return _with_one_mapping(with_turn_marks(_environment(), text))


def _with_one_mapping(compiled: jinja2.Template) -> jinja2.Template:
    """Jinja lays its globals over one another in a chain, and would unfold it for every row."""
    compiled.globals = dict(compiled.globals)
    return compiled


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, in which no product may be huge either."""

    intercepted_binops = frozenset(("*", "**"))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """A product or a power; raises OverflowError where it would fill the memory."""
        if operator == "**" and isinstance(right, int) and abs(right) > LARGEST_EXPONENT:
            raise OverflowError(f"an exponent above {LARGEST_EXPONENT}")
        for repeated, times in ((left, right), (right, left)):
            sized = isinstance(repeated, str | list | tuple) and isinstance(times, int)
            if sized and len(repeated) * times > MAX_RANGE:
                raise OverflowError(f"a repetition longer than {MAX_RANGE}")
        return super().call_binop(context, operator, left, right)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = _Environment(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationMarks, loopcontrols])
    del environment.globals["lipsum"]  # text without end
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    return environment


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _fixed_clock(date: Any) -> Callable[[str], str]:
    """`strftime_now` of a fixed day; a date written otherwise than `01 July 2025` or `2025-07-01` is given as it is."""
    if not isinstance(date, str):
        raise RowError(
            f"field chat_template_kwargs: date_string: expected text, got {described(date)}; write it in quotes"
        )
    for form in ("%d %B %Y", "%Y-%m-%d"):
        try:
            return datetime.strptime(date, form).strftime
        except ValueError:
            continue
    return lambda form: date
