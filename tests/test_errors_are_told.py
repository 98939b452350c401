"""What goes wrong is told: in sentences of one shape, and in the docstring of the function that raises."""

import ast
import re
from collections.abc import Iterator

from own_code import PACKAGES, Code, Key, is_command, module_name, sources, tree_of

# What is said by these, and at which place of their arguments.
SAYING = {"UserError": 0, "RowError": 0, "Fault": 1}
# Sentences with words of their own whose middle comes from a helper.
HELPED = {
    "{}; make them: {}",
    "{}: mask check: {}{}",
    "{}: {}, or its prompt stays in the training data",
    "{}: expected a model folder with model.safetensors, got {}",
    "{}: {}: expected {}{}; {}",
}


def literal_text(node: ast.AST, known: dict[str, str]) -> str:
    """What can be read of an expression's text, with `known` for names; `{}` is what cannot."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(literal_text(part, known) for part in parts)
        case ast.FormattedValue(value=value):
            return literal_text(value, known) if isinstance(value, ast.Name) else "{}"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return literal_text(left, known) + literal_text(right, known)
        case ast.Name(id=name):
            return known.get(name, "{}")
    return "{}"


def told_sentences(scope: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of every sentence that is made below a node, names taken as they were last given above it."""
    known: dict[str, str] = {}
    own, inner = [], []
    waiting = list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef):
            inner.append(node)
        else:
            own.append(node)
            waiting += ast.iter_child_nodes(node)
    for node in sorted(own, key=lambda node: (getattr(node, "lineno", 0), getattr(node, "col_offset", 0))):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                known[name] = literal_text(value, known)
            case ast.AugAssign(target=ast.Name(id=name), value=value):
                known[name] = known.get(name, "{}") + literal_text(value, known)
            case ast.Call(func=ast.Name(id=maker), args=arguments) if maker in SAYING:
                yield node.lineno, literal_text(arguments[SAYING[maker]], known)
    for function in inner:
        yield from told_sentences(function)


def is_whole(sentence: str) -> bool:
    """Whether it says what was expected, what was there, and what to do."""
    return re.search(r"(^|: )expected .+, got [^:].*; .", sentence, re.DOTALL) is not None


def test_a_sentence_of_another_shape_is_found():
    source = """
def check(path):
    told = f"expected a file, got {path}"
    yield Fault("a", f"{told}; correct it")
    told = "no file"
    raise UserError(f"{path}: {told}; correct it")
    raise RowError("expected a file, got: " + path + "; correct it")
"""
    found = {text: is_whole(text) for _, text in told_sentences(ast.parse(source))}
    assert found == {
        "expected a file, got {}; correct it": True,
        "{}: no file; correct it": False,
        "expected a file, got: {}; correct it": False,
    }


def test_every_sentence_says_what_was_expected_what_was_there_and_what_to_do():
    """One without a word of its own is another function's."""
    told = {f"{file}:{line}": text for file in sources(*PACKAGES) for line, text in told_sentences(tree_of(file))}
    worded = {place: text for place, text in told.items() if re.search(r"\w", text)}
    assert len(worded) > 500, "sentences are found"
    assert {*worded.values()} >= HELPED, "an exception that is none any more"
    wrong = {place: text for place, text in worded.items() if text not in HELPED and not is_whole(text)}
    assert not wrong, "\n".join(f"{place}: {text}" for place, text in wrong.items())


def is_private(key: Key) -> bool:
    """Whether a function or method is of its module alone."""
    return key[1].rpartition(".")[2].startswith("_")


def untold_errors(code: Code) -> dict[str, str]:
    """The public functions, and methods of public classes, that let out an error which their docstring does not name.

    A UserError goes up to the program, so it counts wherever it comes from; of errors that are caught on the way, those
    that a function raises itself, or by helpers of its module. A constructor may be told of with its class, and an
    override that says nothing with what it overrides. A command's docstring is its help; each may end with an error.
    """
    far, near = code.leaving(), code.leaving(through=is_private)
    found = {}
    for key, function in code.functions.items():
        owner, _, name = key[1].rpartition(".")
        called = name in ("__init__", "__call__", "__iter__")
        if owner.startswith("_") or (is_private(key) and not called) or any(map(is_command, function.decorator_list)):
            continue
        told = ast.get_docstring(function) or ""
        if called:
            told += ast.get_docstring(code.classes[key[0], owner]) or ""
        overridden: Key | None = key
        while not told and (overridden := code.inherited((overridden[0], overridden[1].rpartition(".")[0]), name)):
            told = ast.get_docstring(code.functions[overridden]) or ""
        untold = {
            error for error in far[key] & {"UserError"} | near[key] if not any(n in told for n in code.errors[error])
        }
        if untold:
            found[".".join(key)] = ", ".join(sorted(untold))
    return found


def test_an_error_that_no_docstring_tells_of_is_found():
    code = Code()
    modules = {
        "apo_soup.errors": "class UserError(Exception): pass\nclass RowError(ValueError): pass",
        "apo_soup.low": """
from apo_soup.errors import RowError, UserError

def told():
    'Raises: UserError.'
    raise UserError("a")

def _row():
    raise RowError("a")

def near():
    _row()

def made() -> UserError: ...

def by_maker():
    raise made()
""",
        "apo_soup.high": """
from apo_soup.low import near, told

def far():
    for each in told(): ...

def rows_are_caught_on_the_way():
    near()

def caught():
    try:
        told()
    except (KeyError, UserError):
        return

def passed_on():
    try:
        told()
    except UserError:
        raise

def later():
    return lambda: told()

class Base:
    def method(self):
        'Raises: UserError.'

class Thing(Base):
    def __init__(self):
        told()

    def method(self):
        self._helper()

    def other(self):
        super().method()
        self._helper()

    def _helper(self):
        told()

def makes():
    return Thing()
""",
    }
    for name, text in modules.items():
        code.add(name, ast.parse(text))
    assert untold_errors(code) == {
        "apo_soup.low.near": "RowError",
        "apo_soup.low.by_maker": "UserError",
        "apo_soup.high.far": "UserError",
        "apo_soup.high.passed_on": "UserError",
        "apo_soup.high.Thing.__init__": "UserError",
        "apo_soup.high.Thing.other": "UserError",
        "apo_soup.high.makes": "UserError",
    }


def test_errors_stand_in_the_docstrings_of_what_lets_them_out():
    code = Code()
    for file in sources(*PACKAGES):
        code.add(module_name(file), tree_of(file))
    assert {"UserError", "RowError", "WindowError", "OtherFormError"} <= set(code.errors)
    assert sum("UserError" in errors for errors in code.leaving().values()) > 400
    untold = untold_errors(code)
    assert not untold, "\n".join(f"{name}: {errors}" for name, errors in untold.items())
