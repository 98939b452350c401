"""Write the table of docs/templates.md: what becomes of rows under every chat template that an installed package holds.

python docs/templates.py            # write
python docs/templates.py --check    # exit with 1 where the page would change, or a cell is wrong

Rows go through the encoder that prepares them. What it trains is then judged by other means: the ids are decoded, and
transformers renders text and prompt. Templates are read where they are installed; none is copied.
"""

import ast
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from jinja2 import TemplateError  # noqa: E402 - the repository's root comes first
from tokenizers import AddedToken  # noqa: E402
from transformers import PreTrainedTokenizerBase  # noqa: E402

from apo_soup.config.yaml_lines import read_yaml  # noqa: E402
from apo_soup.data.conversations.formats import formats_of, recognise  # noqa: E402
from apo_soup.data.documents import Document, RowToEncode  # noqa: E402
from apo_soup.data.encode_supervised import SupervisedEncoder  # noqa: E402
from apo_soup.data.options import Options  # noqa: E402
from apo_soup.data.rendering.template import Span  # noqa: E402
from apo_soup.data.sources.rows import Fields, SourceRow  # noqa: E402
from apo_soup.data.sources.source import Source  # noqa: E402
from apo_soup.data.trained_ranges import range_list  # noqa: E402
from apo_soup.errors import UserError  # noqa: E402
from apo_soup.resources import chat_template  # noqa: E402
from apo_soup.toy.tokenizer import trained_tokenizer  # noqa: E402

PAGE = ROOT / "docs" / "templates.md"
BLOCK = re.compile(r"(<!-- table -->\n).*?(<!-- end of table -->)", re.DOTALL)
# What a template writes around turns is a special token in the vocabulary of its models.
CONTROL = re.compile(
    r"<[|｜][^<>'\"\s]{1,30}[|｜]>|\[\|\w+\|\]|\[gMASK\]|<sop>|<(?:start|end)_of_\w+>|<\|?(?:turn|channel|tool\w*)\|?>|</s>"
    r"|<\|[a-z_]+>|<[a-z_]+\|>"
)
# The end of turn of a family, by what only its templates hold.
ENDS = {
    "<|END_OF_TURN_TOKEN|>": "<|END_OF_TURN_TOKEN|>",
    "<｜end▁of▁sentence｜>": "<｜end▁of▁sentence｜>",
    "<|return|>": "<|return|>",
    "<turn|>": "<turn|>",
    "<end_of_turn>": "<end_of_turn>",
    "<|eot_id|>": "<|eot_id|>",
    "<|eot|>": "<|eot|>",
    "<|im_end|>": "<|im_end|>",
    "<end_of_utterance>": "<end_of_utterance>",
    "<|end|>": "<|end|>",
    "[|endofturn|]": "[|endofturn|]",
    "<|observation|>": "<|user|>",
}
# Templates that transformers holds as text in its modules.
IN_TRANSFORMERS = ("llama4/processing_llama4", "smolvlm/processing_smolvlm", "qwen2_audio/processing_qwen2_audio")
LEAST_TEMPLATE = 100

CALL = {"name": "lookup_word", "arguments": {"word": "zebra"}}
TOOL = {"description": "Finds a word.", "name": "lookup_word"}
TOOL["parameters"] = {  # type: ignore[assignment]
    "type": "object",
    "properties": {"word": {"type": "string", "description": "The word."}},
    "required": ["word"],
}


def turns(*said: str, **first: str) -> list[Fields]:
    """A conversation of questions and answers in turn; `first` is what the first answer has beside its content."""
    roles = ("user", "assistant")
    messages: list[Fields] = [{"role": roles[n % 2], "content": text} for n, text in enumerate(said)]
    messages[1].update(first)
    return messages


def rows() -> dict[str, Fields]:
    """A row for every column of the table."""
    two = ("Question one?", "Answer one.", "Question two?", "Answer two.")
    reasoned = turns(*two, reasoning_content="Thought one.")
    reasoned[3]["reasoning_content"] = "Thought two."
    called: list[Fields] = [
        {"role": "user", "content": "Question one?"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "a1b2c3d4e", "type": "function", "function": CALL}]},
        {"role": "tool", "content": "Striped.", "name": "lookup_word", "tool_call_id": "a1b2c3d4e"},
        {"role": "assistant", "content": "Answer one."},
    ]
    off = {"chat_template_kwargs": {"enable_thinking": False}}
    return {
        "plain": {"messages": turns(*two[:2])},
        "multi-turn": {"messages": turns(*two)},
        "system": {"messages": [{"role": "system", "content": "Be brief."}, *turns(*two[:2])]},
        "tools": {"messages": called, "tools": [{"type": "function", "function": TOOL}], **off},
        "reasoning": {"messages": turns(*two[:2], reasoning_content="Thought one.")},
        "in the content": {"messages": turns(two[0], "<think>\nThought one.\n</think>\n\nAnswer one.")},
        "multi-turn reasoning": {"messages": reasoned},
        "no-think": {"messages": turns(*two[:2]), **off},
        "no-think multi-turn": {"messages": turns(*two), **off},
    }


def templates() -> Iterator[tuple[str, str]]:
    """Name and text of every template that is found."""
    yield "apo-soup", chat_template()
    yield "SmolLM3 (its recipe)", read_yaml(ROOT / "tests" / "handbook" / "sft.yaml")[0]["chat_template"]
    for package, folder in (("trl", "chat_templates"), ("mergekit", "_data/chat_templates")):
        for path in sorted((installed(package) / folder).glob("*.jinja")):
            yield f"{package}: {path.stem}", path.read_text(encoding="utf-8")
    for module in IN_TRANSFORMERS:
        path = installed("transformers") / "models" / f"{module}.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and len(text) > LEAST_TEMPLATE and "{%" in text and "messages" in text:
                yield f"transformers: {path.parent.name}", text


def installed(package: str) -> Path:
    """The folder of an installed package."""
    found = find_spec(package)
    assert found
    assert found.submodule_search_locations
    return Path(next(iter(found.submodule_search_locations)))


def cell(encoder: SupervisedEncoder, row: Fields) -> str:
    """`right`, the reason for which a row is refused, or `WRONG: ` and what is wrong."""
    form = recognise(row, formats_of(False))
    for checked in (True, False):
        task = RowToEncode(Source("row"), SourceRow("row:1", row), form, 1, checked)
        try:
            (result,) = encoder([task]).results
        except UserError as error:
            return str(error).splitlines()[0].partition("row:1: mask check: ")[2]
        if not isinstance(result, Document):
            return result.reason
    ids, ranges = result.parts[0]
    fault = judged(encoder.tokenizer, row, ids.tolist(), range_list(ranges))
    return f"WRONG: {fault}" if fault else "right"


def judged(tokenizer: PreTrainedTokenizerBase, row: Fields, ids: list[int], ranges: list[Span]) -> str | None:
    """What is wrong with a row's trained tokens, or None."""
    messages, arguments = row["messages"], {**row.get("chat_template_kwargs", {}), "tools": row.get("tools")}
    answers = [m for m in messages if m["role"] == "assistant"]
    texts = [str(tokenizer.decode(ids[first:last])) for first, last in ranges]
    if len(texts) != len(answers):
        return f"{len(texts)} trained stretches for {len(answers)} answers: {texts}"
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    for number, (answer, text) in enumerate(zip(answers, texts, strict=True)):
        parts = [answer["content"].rpartition("</think>")[2].strip()]
        for call in answer.get("tool_calls", []):
            parts += [call["function"]["name"], *call["function"]["arguments"].values()]
        if number == len(answers) - 1 and "Thought" in str(answer):
            parts.append("Thought two." if number else "Thought one.")
        if any(part not in text for part in parts):
            return f"{parts} is not in {text!r}"
        end = max((token for token in special if text.endswith(token)), key=len, default="")
        if not end or text.removesuffix(end).rstrip().endswith(end):
            return f"no end, or two, in {text!r}"
        others = [m["content"] for m in messages if m["role"] != "assistant"]
        others += [a["content"] for a in answers if a is not answer and a["content"]]
        if any(other in text for other in others):
            return f"others' words in {text!r}"
    return _judged_prompt(tokenizer, messages, arguments, str(tokenizer.decode(ids[: ranges[-1][0]])))


def _judged_prompt(
    tokenizer: PreTrainedTokenizerBase, messages: list[Fields], arguments: Fields, before: str
) -> str | None:
    """Whether the last answer stands behind a prompt that a model is asked with in its mode."""
    prompts = []
    reasons = "Thought" in str(messages[-1])
    modes = [arguments["enable_thinking"]] if "enable_thinking" in arguments else [True, *([] if reasons else [False])]
    for mode in modes:
        given = {**arguments, "enable_thinking": mode}
        for asked in (messages[:-1], _in_parts(messages[:-1]), _with_text(messages[:-1])):
            try:
                prompts.append(
                    str(tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False, **given))
                )
            except (TemplateError, TypeError):  # a template that takes no content of this form
                continue
    # Dates differ: ours stand still.
    if any(_undated(prompt) == _undated(before) for prompt in prompts):
        return None
    return f"asked behind {prompts[-1][-40:]!r}, trained behind {before[-40:]!r}"


def _in_parts(messages: list[Fields]) -> list[Fields]:
    return [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]


def _with_text(messages: list[Fields]) -> list[Fields]:
    text = {"name": CALL["name"], "arguments": '{"word": "zebra"}'}
    called = [{"id": "a1b2c3d4e", "type": "function", "function": text}]
    return [{**m, "tool_calls": called} if m.get("tool_calls") else m for m in messages]


def _undated(text: str) -> str:
    return re.sub(r"\d{1,2} \w{3,9} 20\d\d|20\d\d-\d\d-\d\d", "DATE", text)


def table() -> tuple[str, list[str]]:
    """The table with the reasons below it, and the cells that are wrong."""
    found = list(templates())
    tokenizer = trained_tokenizer("")
    tokens = sorted({token for _, text in found for token in CONTROL.findall(text)} | {*ENDS.values(), "<s>"})
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    tokenizer.bos_token = "<s>"
    options = Options(False, 4096, "truncate", None, True, None, {})
    columns, reasons, lines, wrong = rows(), list[str](), list[str](), list[str]()
    for name, text in found:
        tokenizer.chat_template = text
        tokenizer.eos_token = next((end for sign, end in ENDS.items() if sign in text), "</s>")
        encoder = SupervisedEncoder(tokenizer, options)
        cells = []
        for column, row in columns.items():
            said = cell(encoder, row)
            if said.startswith("WRONG"):
                wrong.append(f"{name}, {column}: {said}")
            if said != "right":
                said = said.replace(tokenizer.eos_token, "END")
                reasons += [] if said in reasons else [said]
                said = f"refused {reasons.index(said) + 1}"
            cells.append(said)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    head = [f"| template | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    below = [f"{number}. {reason.replace('|', chr(92) + '|')}" for number, reason in enumerate(reasons, 1)]
    return "\n".join([*head, *lines, "", "Reasons, END being the end of turn:", "", *below]), wrong


def main(words: list[str]) -> int:
    """Write the page, or with `--check` say whether it is today's; a wrong cell is an error in both."""
    written, wrong = table()
    for line in wrong:
        print(line)
    text = PAGE.read_text(encoding="utf-8")
    wanted = BLOCK.sub(lambda m: f"{m[1]}{written}\n{m[2]}", text)
    if words != ["--check"]:
        PAGE.write_text(wanted, encoding="utf-8")
        return bool(wrong)
    if wanted != text:
        print(f"{PAGE.relative_to(ROOT)}: run python docs/templates.py")
    return bool(wrong) or wanted != text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
