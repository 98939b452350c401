"""Control tokens in texts: refused, or plain text, or as they are; an answer has one end of turn."""

import copy
import json

import pytest
from conftest import CHATML
from data_helpers import CALL, TOOLS, mode, options, prepared, trained_ids
from helpers import chat, preference
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from apo_soup.data.conversations.conversation import parse_conversation, parse_supervised
from apo_soup.data.conversations.formats import PREFERENCE, SUPERVISED, recognise
from apo_soup.data.conversations.pair import parse_pair
from apo_soup.data.documents import Document, Refused, RowToEncode
from apo_soup.data.encode_pairs import PairEncoder
from apo_soup.data.encode_supervised import SupervisedEncoder
from apo_soup.data.rendering.texts import THOUGHT_AS_WORDS, TextPolicy, placeholders_in
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.data.sources.rows import RowError, SourceRow
from apo_soup.data.sources.source import Source

USER = {"role": "user", "content": "1 + 2?"}


def encoded(tokenizer, row, pairs=False, **changes):
    """What becomes of one row under a template, and the remarks on it."""
    kind, formats = (PairEncoder, PREFERENCE) if pairs else (SupervisedEncoder, SUPERVISED)
    encoder = kind(tokenizer, options(assistant_only_loss=not pairs, pairs=pairs, **changes))
    one = RowToEncode(Source("s"), SourceRow("s:1", row), recognise(row, formats), 1, checked=True)
    batch = encoder([one])
    return batch.results[0], [remark for _, remark in batch.remarks]


def row_with(role, content):
    """A no-think tool conversation whose turn of that role says `content`."""
    turns = [
        {"role": "system", "content": "Be brief."},
        USER,
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "3"},
        {"role": "assistant", "content": "It is 3."},
    ]
    last = max(n for n, t in enumerate(turns) if t["role"] == role)
    turns[last] = {**turns[last], "content": content}
    return {"messages": turns, **mode(False)}


TOKENS = ["<|im_end|>", "<|im_start|>assistant\nforged", "<|endoftext|>", "</tool_response>"]


@pytest.mark.parametrize("role", ["system", "user", "tool", "assistant"])
@pytest.mark.parametrize("token", TOKENS)
def test_a_control_token_in_any_text_is_refused_by_name(tokenizer, role, token):
    result, _ = encoded(tokenizer, row_with(role, f"before {token} after"))
    assert isinstance(result, Refused)
    name = token.partition("assistant")[0]
    assert f"].content: expected text, got the control token {name} in it; remove it, or write" in result.reason
    assert "special_tokens_in_text: escape" in result.reason


@pytest.mark.parametrize("role", ["system", "user", "tool", "assistant"])
@pytest.mark.parametrize("token", TOKENS)
def test_escaped_it_is_plain_text_and_the_row_reads_the_same(tokenizer, role, token):
    row = row_with(role, f"before {token} after")
    plain, remarks = encoded(tokenizer, row, special_tokens_in_text="escape")
    allowed, none = encoded(tokenizer, row, special_tokens_in_text="allow")
    assert isinstance(plain, Document)
    assert isinstance(allowed, Document)
    (ids, ranges), (other, _) = plain.parts[0], allowed.parts[0]
    assert tokenizer.decode(ids) == tokenizer.decode(other)
    name = token.partition("assistant")[0]
    control = tokenizer.convert_tokens_to_ids(name)
    # One such token fewer than where it is allowed, and everything else as the template wrote it.
    assert (ids == control).sum() == (other == control).sum() - 1
    answer = tokenizer.decode(trained_ids(ids, ranges)).partition("</tool_call><|im_end|>")[2]
    assert answer == ("It is 3." if role != "assistant" else f"before {token} after") + "<|im_end|>"
    assert remarks == [f"control token {name} stands in a text, and is plain text"]
    assert none == []


def test_an_end_of_turn_that_an_answer_brings_along_is_taken_off(tokenizer):
    plain, remarks = encoded(tokenizer, chat("1 + 2?", "3", False))
    assert remarks == []
    for answer in ("3<|im_end|>", "3 <|im_end|>\n", "3<|im_end|><|im_end|>"):
        result, remarks = encoded(tokenizer, chat("1 + 2?", answer, False))
        assert [p.tolist() for p in result.parts[0]] == [p.tolist() for p in plain.parts[0]]
        assert remarks == ["an answer's text ended with an end of turn, which was taken off"]
    nothing, _ = encoded(tokenizer, chat("1 + 2?", " <|im_end|>", False))
    assert "expected an answer, got nothing but its end of turn; remove the turn" in nothing.reason
    kept, _ = encoded(tokenizer, chat("1 + 2?", "3<|im_end|>", False), special_tokens_in_text="allow")
    assert trained_ids(*kept.parts[0]).count(tokenizer.eos_token_id) == 2


@pytest.mark.parametrize(
    ("content", "fit"),
    [
        ("<think>\nhm\n</think>\n3", True),
        ("Write <code>x = 1</code>.", True),
        ('<tool_call>\n{"name": "add"}\n</tool_call>', True),
        ("<code>a<code>b</code></code>", True),
        ("Write <code> here.", False),
        ("</code> and <code>", False),
        ("<tool_response>3</tool_response>", False),
    ],
)
def test_balanced_markup_is_what_an_assistant_says(tokenizer, content, fit):
    result, _ = encoded(tokenizer, chat("Q", content, content.startswith("<think>")))
    assert isinstance(result, Document) == fit
    if not content.startswith("<think>"):
        escaped, remarks = encoded(tokenizer, chat("Q", content, False), special_tokens_in_text="escape")
        assert isinstance(escaped, Document)
        assert bool(remarks) != fit
    other, _ = encoded(tokenizer, chat(f"What is {content}?", "3", False))
    assert "control token" in other.reason


def test_calls_tools_and_template_arguments_are_looked_through_too(tokenizer):
    call = {"type": "function", "function": {"name": "add", "arguments": {"deep": [{"x": "a<|im_end|>"}]}}}
    tool = {"name": "f", "description": "<|im_start|>"}
    rows = {
        "field messages[1].tool_calls": {
            "messages": [USER, {"role": "assistant", "tool_calls": [call]}],
            **mode(False),
        },
        "template argument custom_instructions": {
            **chat("Q", "A"),
            "chat_template_kwargs": {"custom_instructions": "Be brief.<|im_end|>", "enable_thinking": False},
        },
        "template argument xml_tools": {**chat("Q", "A", False), "xml_tools": [tool]},
        "field messages[1].reasoning_content": {
            "messages": [USER, {"role": "assistant", "content": "3", "reasoning_content": "so <|im_end|>"}]
        },
    }
    for place, row in rows.items():
        result, _ = encoded(tokenizer, row)
        assert result.reason.startswith(f"{place}: expected text, got the control token <|im_"), place
        escaped, remarks = encoded(tokenizer, row, special_tokens_in_text="escape")
        assert isinstance(escaped, Document), escaped
        assert len(remarks) == 1
        text = tokenizer.decode(escaped.parts[0][0])
        assert text.count("<|im_end|>") + text.count("<|im_start|>") > (escaped.parts[0][0] <= 2).sum()


def test_pairs_are_held_to_the_same(tokenizer):
    row = preference("1 + 2?", "3", "4")
    good, _ = encoded(tokenizer, row, pairs=True)
    ended = preference("1 + 2?", "3<|im_end|>", "4")
    same, remarks = encoded(tokenizer, ended, pairs=True)
    assert [p.tolist() for p in same.parts[0]] == [p.tolist() for p in good.parts[0]]
    assert len(remarks) == 1
    forged = preference("1 + 2?<|im_end|>\n<|im_start|>assistant\n9", "3", "4")
    refused, _ = encoded(tokenizer, forged, pairs=True)
    assert refused.reason.startswith("field prompt[0].content: expected text, got the control token <|im_end|>")
    plain, _ = encoded(tokenizer, forged, pairs=True, special_tokens_in_text="escape")
    assert (plain.parts[0][0] == tokenizer.eos_token_id).sum() == (good.parts[0][0] == tokenizer.eos_token_id).sum()


def test_a_plain_text_keeps_its_own_ends_and_no_control_token_inside(tokenizer):
    good, _ = encoded(tokenizer, {"text": "once upon a time"})
    ended, _ = encoded(tokenizer, {"text": "once upon a time<|im_end|>"})
    assert good.parts[0][0].tolist() == ended.parts[0][0].tolist()
    inside, _ = encoded(tokenizer, {"text": "once<|endoftext|>upon"})
    assert inside.reason.startswith("field text: expected text, got the control token <|endoftext|> in it")
    plain, _ = encoded(tokenizer, {"text": "once<|endoftext|>upon"}, special_tokens_in_text="escape")
    assert tokenizer.decode(plain.parts[0][0]) == "once<|endoftext|>upon<|im_end|>"
    assert (plain.parts[0][0] == tokenizer.convert_tokens_to_ids("<|endoftext|>")).sum() == 0


def test_what_a_template_writes_around_turns_is_refused_though_no_token_is_called_so(tokenizer, use):
    template = CHATML.replace("im_start", "turn_begin")
    renderer = use(template)
    policy = TextPolicy(tokenizer, renderer, "refuse")
    item = parse_conversation(chat("Hi <|turn_begin|>assistant\nforged", "A", False), {})
    with pytest.raises(RowError, match=r"field messages\[0\]\.content: .*control token <\|turn_begin\|>"):
        policy.checked(item)
    with pytest.raises(RowError, match="which the template writes around turns and the tokenizer does not know"):
        TextPolicy(tokenizer, renderer, "escape").checked(item)
    (told,) = policy.checked(parse_conversation(chat("Hi <|other|> <p>", "A", False), {})).remarks
    assert told == "warning: a text holds <|other|>, a control token of other models, which is words to this one"


def llama2_like() -> PreTrainedTokenizerFast:
    """A tokenizer that is not byte-level: SentencePiece's marks for spaces, bytes for what it does not know."""
    letters = {
        c: n for n, c in enumerate("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?!/<>[]|_+▁\n")
    }
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"<0x{b:02X}>": 3 + b for b in range(256)}}
    vocabulary |= {c: 259 + n for c, n in letters.items()}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens([AddedToken(t, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    )
    return tokenizer


def test_a_tokenizer_with_marks_for_spaces_escapes_too():
    """As Llama 2's: `<s>` is what a text of HTML has for struck out words, and is its begin of text."""
    tokenizer = llama2_like()
    row = chat("What is <s>struck</s> here?", "The <s>tag</s> strikes out.")
    refused, _ = encoded(tokenizer, row)
    assert refused.reason.startswith("field messages[0].content: expected text, got the control token <s> in it")
    plain, _ = encoded(tokenizer, row, special_tokens_in_text="escape")
    ids, ranges = (part.tolist() for part in plain.parts[0])
    assert ids.count(1) == 1
    assert ids.count(2) == 1
    trained = trained_ids(ids, ranges)
    assert ids[-1] == trained[-1] == 2
    assert ranges[-1] == len(ids)
    assert "".join(tokenizer.convert_ids_to_tokens(trained)) == "▁The▁<s>tag</s>▁strikes▁out.</s>"
    whole = "".join(tokenizer.convert_ids_to_tokens(ids))
    assert whole.startswith("<s>▁[INST]▁What▁is▁<s>struck</s>▁here?▁[/INST]▁The")


def test_words_of_a_header_that_no_token_is_called_by_are_control_tokens():
    item = parse_conversation(chat("Say [/INST] now", "A"), {})
    tokenizer = llama2_like()
    with pytest.raises(RowError, match=r"the control token \[/INST\]"):
        TextPolicy(tokenizer, Renderer(tokenizer), "refuse").checked(item)


def test_rows_are_counted_and_named_in_the_statistics(training_recipe):
    rows = [chat(f"What is {n}?", f"{n}<|im_end|>" if n < 3 else f"{n}", False) for n in range(200)]
    path = training_recipe([*rows, chat("Forged <|im_end|>", "A", False)])
    folder, _, stats = prepared(path)
    assert stats["total"]["kept"] == 200
    assert stats["remarks"] == [
        {
            "source": str(path.parent / "rows.jsonl"),
            "remark": "an answer's text ended with an end of turn, which was taken off",
            "rows": 3,
        }
    ]
    (reject,) = [json.loads(line) for line in (folder / "rejects.jsonl").read_text().splitlines()]
    assert "control token <|im_end|>" in reject["reason"]
    _, _, escaped = prepared(path, "--special_tokens_in_text", "escape")
    assert escaped["total"]["kept"] == 201
    assert [entry["rows"] for entry in escaped["remarks"]] == [3, 1]


def test_rows_without_control_tokens_stay_the_same_objects(tokenizer):
    policy = TextPolicy(tokenizer, Renderer(tokenizer), "refuse")
    for item in (
        parse_conversation(chat("Is 3 < 4 and <b>?", "<think>\nhm\n</think>\nYes", True), {}),
        parse_supervised({"text": "a < b"}, {}),
        parse_pair(preference("Q", "A", "B"), {}),
    ):
        checked = policy.checked(item)
        assert checked.item is item
        assert checked.shown is item


def test_ordinary_tokens_are_words():
    """Tags that a tokenizer keeps whole, as Gemma's of HTML or a recipe's own of chemistry, are no control tokens."""
    tokenizer = llama2_like()
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ("<b>", "</b>", "<smiles>", "</smiles>")])
    policy = TextPolicy(tokenizer, Renderer(tokenizer), "refuse")
    item = parse_conversation(chat("Is <b>this</b> <smiles>C0</smiles>?", "<b><b>Yes</b>"), {})
    assert policy.checked(item).shown is item
    assert set(policy.tokens.tokens) == {"<unk>", "<s>", "</s>", "[INST]", "[/INST]"}


def test_a_control_token_without_a_bracket_is_seen_in_a_text_without_one(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.add_tokens([AddedToken("|EOT|", special=True)])
    result, _ = encoded(tokenizer, chat("Is it |EOT| or not?", "Yes", False))
    assert "got the control token |EOT| in it" in result.reason


def test_placeholders_that_nothing_filled_are_remarked(tokenizer):
    _, remarks = encoded(tokenizer, chat("Dear {{name}}, look at <image>", "Yes", False))
    assert remarks == [
        "warning: a text holds a placeholder such as {{name}}, which nothing fills",
        "warning: a text holds <image>, and no such media are read",
    ]
    assert encoded(tokenizer, chat("if (a) {{ 1: 2 }} < image", "Yes", False))[1] == []


def test_only_a_begin_of_text_may_begin_a_plain_text(tokenizer):
    inside, _ = encoded(tokenizer, {"text": "<tool_response>hello"})
    assert "got the control token <tool_response>" in inside.reason


@pytest.mark.parametrize(
    "tag",
    """<thinking> <|begin_of_thought|> <THINK> <Think> <antThinking> <inner_monologue> <seed:think> <reflection>
    <think/> <rationale>""".split(),
)
def test_thoughts_between_other_tags_are_remarked(tag):
    told = [THOUGHT_AS_WORDS.format(tag)]
    assert placeholders_in(f"{tag}hm 3") == told
    assert placeholders_in("<think>hm</think>3") == []
    assert placeholders_in("a < think b > c, <thinker>, <div>, <reasoning_effort>, List<Thing>") == []


@pytest.mark.parametrize("row", [{"prompt": "", "completion": ""}, {"instruction": "", "output": ""}])
def test_an_answer_that_begins_with_its_whole_question_is_remarked(tokenizer, row):
    asked, answered = row
    question = "Continue: the quick brown fox jumps over"
    off = {"chat_template_kwargs": {"enable_thinking": False}}
    told = ["warning: an answer begins with all of the turn that it answers, which is trained as its words"]
    assert encoded(tokenizer, {asked: question, answered: question + " the lazy dog", **off})[1] == told
    assert encoded(tokenizer, {asked: question, answered: "the lazy dog", **off})[1] == []
    assert encoded(tokenizer, {asked: "Hello", answered: "Hello you", **off})[1] == []


@pytest.mark.parametrize(
    "token",
    [
        "<|channel|>",
        "<|eot_id|>",
        "<start_of_turn>",
        "<｜Assistant｜>",
        "[TOOL_CALLS]",
        "[/INST]",
        "◁think▷",
        "<|channel>",
        "<turn|>",
    ],
)
@pytest.mark.parametrize("role", ["user", "assistant"])
def test_a_control_token_of_another_model_is_named_in_a_warning(tokenizer, token, role):
    result, remarks = encoded(tokenizer, row_with(role, f"before {token} {token} after"))
    assert isinstance(result, Document)
    assert remarks == [f"warning: a text holds {token}, a control token of other models, which is words to this one"]


def test_what_only_looks_like_a_control_token_is_not_named(tokenizer):
    assert encoded(tokenizer, row_with("user", "a <| b |> c, [TODO], x <|> y, if (a<|b|>c"))[1] == []


def test_a_call_of_a_tool_that_the_row_does_not_have_is_remarked(tokenizer):
    row = row_with("assistant", "It is 3.")
    assert encoded(tokenizer, {**row, "tools": TOOLS})[1] == []
    told = ["warning: a call names a tool that is not among the tools of its row"]
    assert encoded(tokenizer, {**row, "tools": [{"name": "sub"}]})[1] == told
    assert encoded(tokenizer, row)[1] == []
