"""typer's commands, whose mistakes on the command line are told in one sentence of our shape."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

import typer
from annotated_types import Ge, Le
from typer.core import TyperCommand, TyperGroup

from apo_soup.config.in_words import expectation, type_and_metadata
from apo_soup.config.nearest import nearest
from apo_soup.config.remedies import remedy
from apo_soup.errors import UserError, first_line
from apo_soup.streams import let_words_be_lost

# What these say is all that they are for: they end when nobody reads it any more.
_SPEAKERS = ("check", "plan", "why", "preview", "compare", "chat", "submit")
Function = TypeVar("Function", bound=Callable[..., Any])


class Stopped(Exception):
    """A command was stopped from outside: interrupted, or the reader of its output is gone."""

    def __init__(self, cause: KeyboardInterrupt | BrokenPipeError):
        self.cause = cause


class Commands(TyperGroup):
    """Commands whose interruption is `run_main`'s to deal with, as it is for every other program of ours."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words before the command's name.

        Raises:
            UserError: an option is unknown, or used in a wrong way.
        """
        try:
            return super().parse_args(ctx, args)
        except typer.TyperException as error:
            raise mistake(error, ctx) from error

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the words name.

        Raises:
            UserError: there is none of that name.
        """
        known = self.list_commands(ctx)
        if args[0] not in known and not ctx.resilient_parsing:
            way = nearest(args[0], known) or f"see {ctx.command_path} --help"
            raise UserError(f"{ctx.command_path}: expected one of {', '.join(known)}, got {args[0]}; {way}")
        if args[0] not in _SPEAKERS:
            let_words_be_lost()
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that `ctx` names.

        Raises:
            Stopped: the command was interrupted, or nobody reads what it prints.
        """
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, BrokenPipeError) as cause:
            raise Stopped(cause) from cause


class OneCommand(TyperCommand):
    """A command that tells what is wrong with its words in one sentence."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words behind the command's name.

        Raises:
            UserError: an option is unknown or used in a wrong way, an argument is missing, or there is one too many.
        """
        try:
            return super().parse_args(ctx, args)
        except typer.TyperException as error:
            raise mistake(error, ctx) from error


class Program(typer.Typer):
    """An application all of whose commands are of these kinds."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[Function], Function]:
        """Register a function as a command."""
        return super().command(name, cls=OneCommand, **options)


def mistake(error: typer.TyperException, ctx: Any) -> UserError:
    """What typer found wrong with the words of the command of `ctx`: what was expected, what was there, what to do."""
    parameters = ctx.command.get_params(ctx)
    option: str | None = getattr(error, "option_name", None)
    own = next((p for p in parameters if option in p.opts), getattr(error, "param", None))
    if own is None:
        what = _unknown_option(option, parameters) if option else _other(error, parameters)
    elif option:
        what = f"expected {_written(own)}" + (
            " alone, got a value; leave it out" if own.is_flag else ", got no value; add it"
        )
    elif isinstance(error.__cause__, ValueError):
        what = f"{_name(own)}: {_wrong_value(ctx.command.callback, own, error)}"
    else:
        what = f"expected {_written(own)}{f' ({own.help})' if own.help else ''}, got nothing; add it"
    return UserError(f"{ctx.command_path}: {what}")


def option_names(context: typer.Context) -> list[str]:
    """The options of a command, which a misspelt `--key` may have meant."""
    return [_name(parameter) for parameter in context.command.params if _is_option(parameter)]


def _is_option(parameter: Any) -> bool:
    return str(parameter.opts[0]).startswith("-")


def _name(parameter: Any) -> str:
    """An option's longest name, or what help calls an argument."""
    return str(max(parameter.opts, key=len) if _is_option(parameter) else parameter.metavar)


def _written(parameter: Any) -> str:
    """A parameter as it is written on the command line."""
    return " ".join(dict.fromkeys(filter(None, (_name(parameter), parameter.metavar))))


def _unknown_option(option: str, parameters: list[Any]) -> str:
    options = [p for p in parameters if _is_option(p)]
    way = nearest(option, [name for p in options for name in (*p.opts, *p.secondary_opts)]) or "leave it out"
    names = [name for p in options for name in (_name(p), *p.secondary_opts)]
    return f"expected an option of {', '.join(names)}, got {option}; {way}"


def _other(error: typer.TyperException, parameters: list[Any]) -> str:
    """What typer has no kind of its own for: more words than the command takes."""
    told = first_line(error).rstrip(".")
    if not told.startswith("Got "):
        return f"expected words that it takes, got a refusal: {told}; see its --help"
    arguments = " ".join(_name(p) for p in parameters if not _is_option(p)) or "options alone"
    return f"expected {arguments}, got {told.removeprefix('Got ')}; leave them out, or quote a path that holds spaces"


def _wrong_value(function: Any, parameter: Any, error: typer.TyperException) -> str:
    """What is wrong with a value, by the type that the command's function declares for it."""
    kind, metadata = type_and_metadata(get_type_hints(inspect.unwrap(function), include_extras=True)[parameter.name])
    declared = metadata[0]
    bounds = [bound(limit) for bound, limit in ((Ge, declared.min), (Le, declared.max)) if limit is not None]
    value = error.__cause__.errors()[0]["input"]  # type: ignore[union-attr]  # pydantic's
    number = _as_number(value)
    return f"expected {expectation(kind, bounds)}, got {value}; {remedy(kind, bounds, number)}"


def _as_number(text: Any) -> Any:
    """The number that a text is, or the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
