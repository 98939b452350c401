"""The Modelfile by which Ollama takes a GGUF file: template, stops, sampling, and how the mode is set.

Ollama from 0.30 on reads the chat template in the GGUF file itself, all of it, where that can do more than the
Modelfile's: tools. Ollama's own language has no tools here, so that this is what it does. Earlier releases read this
template, and refuse tools.
"""

from collections.abc import Sequence
from typing import Any

from apo_soup.export.turn_format import NO_THINK_WORD, ChatFormat, TurnFormat, thinks_in_tags

# The first release that reads the chat template of a GGUF file.
READS_JINJA = "0.30.0"
# Texts that would end the template, or the quotation around it.
_QUOTES = '"""'
_SAMPLING = ("temperature", "top_p", "top_k", "repetition_penalty")
_OLLAMA_NAMES = {"repetition_penalty": "repeat_penalty"}
_MODES = """\
# The mode: `/set nothink` and `/set think` in `ollama run`, `"think": false` in a request{word}.
"""
_WORD = f",\n# or {NO_THINK_WORD} as the first word of the system message"


def modelfile(file: str, found: ChatFormat | None, stops: Sequence[str], generation: dict[str, Any]) -> str:
    """The text of a Modelfile.

    Args:
        file: the name of the GGUF file beside it.
        found: the format of the model's chat template, without a beginning of text that llama.cpp adds; None leaves the
            template to the GGUF file.
        stops: texts that end an answer.
        generation: the model's generation settings, of which sampling is taken.
    """
    lines = [f"FROM ./{file}\n"]
    template = go_template(found) if found else None
    if template is None:
        lines += [
            "# The chat template is the one in the file, which cannot be written in Ollama's own language.\n"
            f"REQUIRES {READS_JINJA}\n"
        ]
    else:
        lines.append(f"TEMPLATE {_QUOTES}{template}{_QUOTES}\n")
    lines += [f"PARAMETER stop {_quoted(stop)}\n" for stop in stops]
    lines += [
        f"PARAMETER {_OLLAMA_NAMES.get(key, key)} {generation[key]}\n"
        for key in _SAMPLING
        if isinstance(generation.get(key), int | float)
    ]
    if found and len(found.modes) > 1:
        lines.append(_MODES.format(word=_WORD if found.reads_word else ""))
    return "".join(lines)


def go_template(found: ChatFormat) -> str | None:
    """A chat format in the language of Go's text/template, with Ollama's names; None where a text cannot stand in it:
    a Modelfile ends the template at three quotes.

    None too where there are modes and no think tags around earlier reasoning: by these Ollama knows that a model
    thinks, and takes no mode for another.
    """
    if len(found.modes) > 1 and not thinks_in_tags(found):
        return None
    think, plain = found.modes["think"], found.modes.get("no_think", found.modes["think"])
    texts = [text for one in found.modes.values() for text in _texts(one)]
    if any(_QUOTES in text for text in texts) or (texts and texts[-1].endswith('"')):
        return None
    turns = [
        f'{{{{ if eq .Role "user" }}}}{_text(think.user[0])}{{{{ .Content }}}}{_text(think.user[1])}',
        f'{{{{ else if eq .Role "assistant" }}}}{_by_mode(think.answer[0], plain.answer[0])}',
        _thought(think, by_mode=plain is not think) if thinks_in_tags(found) else "",
        f"{{{{ .Content }}}}{_by_mode(think.answer[1], plain.answer[1])}{{{{ end }}}}",
    ]
    return "".join(
        [
            _mode(found),
            f"{{{{ if $system }}}}{_by_mode(think.system[0], plain.system[0])}{{{{ $system }}}}",
            _by_mode(think.system[1], plain.system[1]),
            f"{{{{ else }}}}{_by_mode(think.opening, plain.opening)}{{{{ end }}}}",
            f"{{{{ range .Messages }}}}{''.join(turns)}{{{{ end }}}}",
            _by_mode(think.prompt, plain.prompt),
        ]
    )


def _mode(found: ChatFormat) -> str:
    """The variables `$system` and, where there are modes, `$think`: by the request, or by the system message's word."""
    written = "{{ $system := .System }}"
    if len(found.modes) == 1:
        return written
    written = "{{ $think := true }}{{ if .IsThinkSet }}{{ $think = .Think }}{{ end }}" + written
    if not found.reads_word:
        return written
    choices = []
    for word, value in ((NO_THINK_WORD, "false"), ("/think", "true")):
        size = len(word) + 1
        choices += [
            f'if eq .System "{word}" }}}}{{{{ $think = {value} }}}}{{{{ $system = "" }}}}',
            f'if eq (printf "%.{size}s" .System) "{word} " "{word}\\n" }}}}{{{{ $think = {value} }}}}'
            f"{{{{ $system = slice .System {size} }}}}",
        ]
    return written + "{{ " + "{{ else ".join(choices) + "{{ end }}"


def _thought(think: TurnFormat, by_mode: bool) -> str:
    """The reasoning of an earlier answer between its tags, which Ollama reads off here."""
    head, tail = think.thought or ("", "")
    condition = "and $think .Thinking" if by_mode else ".Thinking"
    return f"{{{{ if {condition} }}}}{_text(head)}{{{{ .Thinking }}}}{_text(tail)}{{{{ end }}}}"


def _by_mode(think: str, plain: str) -> str:
    """A text that is the same in both modes, or one for each."""
    if plain == think:
        return _text(think)
    return f"{{{{ if $think }}}}{_text(think)}{{{{ else }}}}{_text(plain)}{{{{ end }}}}"


def _text(text: str) -> str:
    """A text as the template's own, braces as a string of it."""
    return text.replace("{{", '{{ "{{" }}')


def _texts(one: TurnFormat) -> list[str]:
    thought = one.thought or ()
    return [one.opening, *one.system, *one.user, *one.answer, *thought, one.prompt]


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'
