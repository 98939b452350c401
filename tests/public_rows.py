"""Rows as public data sets have them, rewritten by hand from their schemas, and what becomes of each set.

A set's outcome is the texts that are trained of its rows (of pairs, the two answers), or how the reason begins for
which it is refused. `keys` are those that a source's entry, or the recipe, needs for it.
"""

import json
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class PublicSet:
    """The rows of one data set, what a recipe writes for it, and what becomes of them."""

    name: str
    rows: list[Row]
    outcome: list[str] | str
    pairs: bool = False
    keys: dict[str, Any] = field(default_factory=dict)


def _user(text: Any, **beside: Any) -> Row:
    return {"role": "user", "content": text, **beside}


def _said(text: Any, **beside: Any) -> Row:
    return {"role": "assistant", "content": text, **beside}


def _system(text: str) -> Row:
    return {"role": "system", "content": text}


def _from(who: str, text: str, **beside: Any) -> Row:
    return {"from": who, "value": text, **beside}


BOTH = ["Good", "Bad"]
ASKED, GOOD, BAD = _user("Hi?"), _said("Good"), _said("Bad")
WHOLE = {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}
THOUGHT = "<think>\nHm.\n</think>\n\nGood"
FLAT = '[{"name": "f", "description": "d", "parameters": {"a": {"type": "int"}}}]'
SCHEMA = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
CALLED = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
NO_INSTRUCTIONS = {"custom_instructions": "", "python_tools": [], "xml_tools": []}
OLD_TAGS = "<|begin_of_thought|>\n\nHm.\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\nGood\n\n<|end_of_solution|>"
HERMES = _from("system", "Call a tool within <tool_call> </tool_call> tags.")

SUPERVISED = [
    PublicSet("UltraChat-200k", [{"prompt": "Hi?", "prompt_id": "f0", "messages": [ASKED, GOOD]}], ["Good"]),
    PublicSet(
        "OpenHermes-2.5",
        [
            {"category": "orca", "model_name": None, "system_prompt": None, "source": "airoboros",
             "conversations": [_from("human", "Hi?", weight=None), _from("gpt", "Good", weight=None)]},
            {"system_prompt": "S", "skip_prompt_formatting": False, "views": 3,
             "conversations": [_from("system", "S"), _from("human", "Hi?", weight=0), _from("gpt", "Fine", weight=1)]},
        ],
        ["Good", "Fine"],
    ),
    PublicSet(
        "SlimOrca",
        [{"conversations": [_from("system", "", weight=None), _from("human", "Hi?", weight=0.0),
                            _from("gpt", "Good", weight=1.0)]}],
        ["Good"],
    ),
    PublicSet(
        "Capybara",
        [{"source": "s", "conversation": [{"input": "a", "output": "b"}, {"input": "c", "output": "d"}]}],
        ["b", "d"],
    ),
    PublicSet(
        "WildChat-1M",
        [{"conversation_hash": "c", "model": "m", "turn": 1, "language": "English", "toxic": False,
          "conversation": [_user("Hi?", toxic=False, country="x"), _said("Good", toxic=False, country=None)]}],
        ["Good"],
    ),
    PublicSet("LMSYS-chat-1M", [{"conversation_id": "3", "conversation": [ASKED, GOOD], "redacted": False}], ["Good"]),
    PublicSet(
        "Magpie-Pro",
        [{"uuid": "1", "instruction": "Hi?", "response": "Good", "conversations": [
            _from("human", "Hi?"), _from("gpt", "Good")]}],
        ["Good"],
    ),
    PublicSet("Tulu-3 SFT mixture", [{"id": "p_1", "messages": [ASKED, GOOD], "source": "ai2"}], ["Good"]),
    PublicSet("smoltalk", [{"messages": [_system("S"), ASKED, GOOD], "source": "smol-rewrite"}], ["Good"]),
    PublicSet(
        "smoltalk's apigen-80k",
        [{"messages": [_system("Call within <tool_call> </tool_call>."), ASKED, _said(CALLED)]}],
        [CALLED],
        keys={"special_tokens_in_text": "escape"},
    ),
    PublicSet(
        "smoltalk2 SFT",
        [
            {"messages": [ASKED, GOOD], "chat_template_kwargs": {**NO_INSTRUCTIONS, "enable_thinking": False}},
            {"messages": [ASKED, _said(THOUGHT)],
             "chat_template_kwargs": {**NO_INSTRUCTIONS, "custom_instructions": "I", "enable_thinking": True}},
            {"messages": [ASKED, _said(CALLED)],
             "chat_template_kwargs": {**NO_INSTRUCTIONS, "xml_tools": [FLAT[1:-1]], "enable_thinking": False}},
        ],
        ["Good", THOUGHT, CALLED],
    ),
    PublicSet("No Robots", [{"prompt": "Hi?", "prompt_id": "6", "messages": [ASKED, GOOD]}], ["Good"]),
    PublicSet("LongAlign-10k", [{"messages": [ASKED, GOOD], "length": 8000}], ["Good"]),
    PublicSet("NuminaMath-CoT", [{"problem": "Hi?", "solution": "Good", "messages": [ASKED, GOOD]}], ["Good"]),
    PublicSet("Code-Feedback", [{"id": 1, "messages": [ASKED, GOOD, _user("More?"), _said("No")]}], ["Good", "No"]),
    PublicSet(
        "Alpaca",
        [{"instruction": "Hi?", "input": "x", "output": "Good", "text": "Below is ...\n\nHi?\n\nx\n\nGood"}],
        ["Good"],
    ),
    PublicSet("Dolly", [{"instruction": "Hi?", "context": "", "response": "Good", "category": "qa"}], ["Good"]),
    PublicSet("MetaMathQA", [{"type": "A", "query": "Hi?", "response": "Good", "original_question": "H"}], ["Good"]),
    PublicSet(
        "OpenThoughts3-1.2M",
        [{"difficulty": 8, "domain": "code", "conversations": [_from("human", "Hi?"), _from("gpt", THOUGHT)]}],
        [THOUGHT],
    ),
    PublicSet("OpenThoughts-114k", [
        {"system": "S", "conversations": [_from("user", "Hi?"), _from("assistant", OLD_TAGS)]}], [THOUGHT]),
    PublicSet(
        "OpenR1-Math-220k",
        [{"problem": "Hi?", "generations": [THOUGHT, "<think>\nno"], "messages": [ASKED, _said(THOUGHT)]}],
        [THOUGHT],
    ),
    PublicSet("Mixture-of-Thoughts", [{"messages": [ASKED, _said(THOUGHT)], "num_tokens": 9}], [THOUGHT]),
    PublicSet(
        "AM-DeepSeek-R1-Distilled",
        [{"messages": [_user("Hi?", info={"source": "s"}),
                       _said("<think>Hm.</think><answer>Good</answer>", info={"think_content": "Hm."})]}],
        ["<think>Hm.</think><answer>Good</answer>"],
    ),
    PublicSet(
        "Nemotron post-training v2",
        [
            {"category": "math", "reasoning": "on", "messages": [_system(""), ASKED, _said(THOUGHT)]},
            {"category": "chat", "reasoning": "off", "messages": [_system(""), ASKED, GOOD]},
        ],
        [THOUGHT, "Good"],
    ),
    PublicSet(
        "Nemotron 3 SFT",
        [{"messages": [ASKED, _said("", reasoning_content="Hm.", tool_calls=[CALL]),
                       {"role": "tool", "content": "3", "tool_call_id": "call_1"}, _said("Three")],
          "tools": [SCHEMA], "used_in": ["nano"]}],
        ["<think>\nHm.\n</think>\n" + CALLED, "Three"],
    ),
    PublicSet(
        "multilingual-thinking",
        [{"user": "Hi?", "analysis": "Hm.", "final": "Good", "messages": [
            {**_system("S"), "thinking": None}, {**ASKED, "thinking": None}, _said("Good", thinking="Hm.")]}],
        ["<think>\nHm.\n</think>\nGood"],
    ),
    PublicSet(
        "Glaive v2 as ShareGPT",
        [{"conversations": [_from("human", "Hi?"), _from("function_call", '{"name": "f", "arguments": {"a": 1}}'),
                            _from("observation", "3"), _from("gpt", "Three")], "tools": FLAT}],
        [CALLED, "Three"],
    ),
    PublicSet(
        "Hermes function calling v1",
        [{"conversations": [HERMES, _from("human", "Hi?"), _from("gpt", CALLED), _from("tool", "3"),
                            _from("gpt", "Three")], "category": "c", "tools": FLAT}],
        [CALLED, "Three"],
        keys={"special_tokens_in_text": "escape"},
    ),
    PublicSet(
        "ToolACE",
        [{"system": "S", "conversations": [_from("user", "Hi?"), _from("assistant", "[f(a=1)]"), _from("tool", "3"),
                                           _from("assistant", "Three")]}],
        ["[f(a=1)]", "Three"],
    ),
    PublicSet(
        "xLAM-60k",
        [{"id": 0, "query": "Hi?", "answers": '[{"name": "f", "arguments": {"a": 1}}]', "tools": FLAT}],
        [CALLED],
    ),
    PublicSet(
        "APIGen-MT-5k",
        [{"system": "S", "tools": FLAT, "conversations": [
            _from("human", "Hi?"), _from("function_call", '{"name": "f", "arguments": {"a": 1}}'),
            _from("observation", "3"), _from("gpt", "Three")]}],
        [CALLED, "Three"],
    ),
    PublicSet("When2Call", [{"tools": [FLAT[1:-1]], "messages": [ASKED, GOOD]}], ["Good"]),
    PublicSet(
        "SWE-smith trajectories",
        [{"messages": json.dumps([_user([{"type": "text", "text": "Hi?"}]), _said("", tool_calls=[CALL]),
                                  {"role": "tool", "content": [{"type": "text", "text": "3"}]}, _said("Three")]),
          "resolved": True}],
        [CALLED, "Three"],
    ),
    PublicSet(
        "AgentInstruct",
        [{"id": "os_0", "conversations": [_from("human", "Hi?", loss=None), _from("gpt", "Ok", loss=False),
                                          _from("human", "Go", loss=None), _from("gpt", "Good", loss=True)]}],
        ["Good"],
    ),
    PublicSet("FineTome", [{"conversations": [_from("human", "Hi?"), _from("gpt", "Good")], "score": 5}], ["Good"]),
    PublicSet(
        "OpenAI's chat files",
        [{"messages": [ASKED, _said("Bad", weight=0), ASKED, _said("Good", weight=1)]},
         {"messages": [ASKED, _said(None, tool_calls=[CALL])], "tools": [SCHEMA], "parallel_tool_calls": False}],
        ["Good", CALLED],
    ),
    PublicSet(
        "Anthropic's messages",
        [{"system": "S", "tools": [{"name": "f", "input_schema": {"type": "object"}}], "messages": [
            ASKED,
            _said([{"type": "thinking", "thinking": "Hm.", "signature": "E"},
                   {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]),
            _user([{"type": "tool_result", "tool_use_id": "t", "content": "3"}]), _said("Three")]}],
        ["<think>\nHm.\n</think>\n" + CALLED, "Three"],
    ),
    PublicSet(
        "Gemini's contents",
        [{"systemInstruction": {"parts": [{"text": "S"}]}, "contents": [
            {"role": "user", "parts": [{"text": "Hi?"}]}, {"role": "model", "parts": [{"text": "Good"}]}]}],
        ["Good"],
        keys={"rename": {"contents": "messages", "systemInstruction": "system"}},
    ),
    PublicSet(
        "Bedrock's messages",
        [{"system": [{"text": "S"}], "messages": [_user([{"text": "Hi?"}]), _said([{"text": "Good"}])]}],
        ["Good"],
    ),
    PublicSet("Cohere's messages", [
        {"messages": [{"role": "User", "content": "Hi?"}, {"role": "Chatbot", "content": "Good"}]}], ["Good"]),
    PublicSet("GSM8K", [{"question": "Hi?", "answer": "Good"}], ["Good"],
              keys={"rename": {"question": "prompt", "answer": "completion"}}),
    PublicSet("LIMO", [{"question": "Hi?", "solution": "Good", "answer": "4"}], ["Good"],
              keys={"rename": {"question": "prompt", "solution": "completion"}}),
    PublicSet("Aya", [{"inputs": "Hi?", "targets": "Good", "language": "English", "user_id": "u"}], ["Good"],
              keys={"rename": {"inputs": "prompt", "targets": "completion"}}),
    PublicSet("HelpSteer2", [{"prompt": "Hi?", "response": "Good", "helpfulness": 4}], ["Good"],
              keys={"rename": {"response": "completion"}}),
    PublicSet("OpenMathReasoning", [{"problem": "Hi?", "generated_solution": THOUGHT}], [THOUGHT],
              keys={"rename": {"problem": "prompt", "generated_solution": "completion"}}),
    PublicSet("OpenCodeReasoning", [{"input": "Hi?", "output": THOUGHT, "solution": "x"}], [THOUGHT],
              keys={"rename": {"input": "prompt", "output": "completion"}}),
    PublicSet(
        "Llama-Nemotron post-training",
        [{"input": [ASKED], "output": THOUGHT, "reasoning": "on", "system_prompt": "S"},
         {"input": [ASKED], "output": "Good", "reasoning": "off", "system_prompt": "S"}],
        [THOUGHT, "Good"],
        keys={"rename": {"input": "prompt", "output": "completion", "system_prompt": "system"}},
    ),
    PublicSet(
        "medical-o1", [{"Question": "Hi?", "Complex_CoT": "Hm.", "Response": "Good"}],
        ["<think>\nHm.\n</think>\nGood"],
        keys={"rename": {"Question": "prompt", "Response": "completion", "Complex_CoT": "reasoning_content"}},
    ),
    PublicSet(
        "Dolphin-R1", [{"messages": [_system("S"), ASKED], "reasoning": "Hm.", "answer": "Good", "model": "m"}],
        ["<think>\nHm.\n</think>\nGood"],
        keys={"rename": {"messages": "prompt", "answer": "completion", "reasoning": "reasoning_content"}},
    ),
    PublicSet(
        "SWE-rebench trajectories", [{"trajectory": [ASKED, GOOD], "resolved": 1, "repo": "r"}], ["Good"],
        keys={"rename": {"trajectory": "messages"}},
    ),
    PublicSet("OASST1", [{"message_id": "6", "parent_id": None, "text": "Why?", "role": "prompter"}],
              "field text: expected a whole text, got one turn of a conversation"),
    PublicSet("OASST-Guanaco", [{"text": "### Human: Hi?### Assistant: Good"}],
              "field text: expected messages where assistant_only_loss is true, got a rendered chat"),
    PublicSet("Glaive v2", [{"system": "SYSTEM: S", "chat": "USER: Hi?\n\n\nASSISTANT: Good <|endoftext|>"}],
              "map their columns to messages"),
    PublicSet("verl's prompts", [{"data_source": "d", "prompt": [ASKED], "reward_model": {"ground_truth": "4"}}],
              "give each row its answer as completion"),
]  # fmt: skip

PAIRS = [
    PublicSet("HH-RLHF", [{side: f"\n\nHuman: Hi?\n\nAssistant: {said}" for side, said in (
        ("chosen", "Good"), ("rejected", "Bad"))}], BOTH, True),
    PublicSet("UltraFeedback binarized (HuggingFaceH4)", [
        {"prompt": "Hi?", "prompt_id": "1", **WHOLE, "messages": [ASKED, GOOD], "score_chosen": 8.5,
         "score_rejected": 7.5}], BOTH, True),
    PublicSet("UltraFeedback binarized (TRL)", [{**WHOLE, "score_chosen": 8.5, "score_rejected": 7.5}], BOTH, True),
    PublicSet("UltraFeedback binarized (argilla)", [
        {"prompt": "Hi?", **WHOLE, "chosen-rating": 5.0, "rejected-rating": 3.0, "chosen-model": "m"}],
        BOTH, True),
    PublicSet("dpo-mix-7k", [{"dataset": "d", **WHOLE, "chosen_rating": 5.0, "rejected_rating": 3.0}], BOTH, True),
    PublicSet("Tulu-3 preference mixture", [{"id": "1", "source": "s", **WHOLE, "prompt": "Hi?"}], BOTH, True),
    PublicSet("smoltalk2 Preference", [
        {"prompt": "Hi?", **WHOLE, "chat_template_kwargs": {**NO_INSTRUCTIONS, "enable_thinking": False}}],
        BOTH, True),
    PublicSet("Skywork-Reward-Preference-80K", [{**WHOLE, "source": "magpie"}], BOTH, True),
    PublicSet("ORPO-DPO-mix-40k", [{"source": "s", **WHOLE, "prompt": "Hi?", "question": "Hi?"}], BOTH, True),
    PublicSet("Capybara-DPO-7k", [
        {**WHOLE, "prompt": "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n", "rating_chosen": 5.0,
         "rating_rejected": 4.0, "conversation": [{"input": "Hi?", "output": None}]}], BOTH, True),
    PublicSet("Orca-DPO-pairs", [{"system": "S", "question": "Hi?", "chosen": "Good", "rejected": "Bad"}],
              BOTH, True),
    PublicSet("distilabel Orca pairs", [
        {"system": "", "input": "Hi?", "chosen": "Good", "rejected": "Bad", "rating": [9.0, 8.0]}], BOTH, True),
    PublicSet("distilabel-math-preference", [
        {"instruction": "Hi?", "chosen_response": "Good", "rejected_response": "Bad", "chosen_rating": 5.0}],
        BOTH, True),
    PublicSet("When2Call preference", [
        {"messages": [ASKED], "tools": [FLAT[1:-1]], "chosen_response": GOOD, "rejected_response": BAD}],
        BOTH, True),
    PublicSet("truthy-dpo", [{"system": "S", "prompt": "Hi?", "chosen": "Good", "rejected": "Bad"}], BOTH, True),
    PublicSet("OpenAI's preference files", [
        {"input": {"messages": [ASKED], "tools": []}, "preferred_output": [GOOD], "non_preferred_output": [BAD]}],
        BOTH, True),
    PublicSet("UltraInteract pairs", [
        {"trajectory": [_from("user", "Hi?")], "chosen": "Good", "rejected": "Bad", "task": "t"}],
        BOTH, True, {"rename": {"trajectory": "prompt"}}),
    PublicSet("SHP", [{"post_id": "q", "history": "Hi?", "human_ref_A": "a", "human_ref_B": "b", "labels": 1}],
              "no rename says which of human_ref_A and human_ref_B is the better", True),
    PublicSet("PKU-SafeRLHF", [{"prompt": "Hi?", "response_0": "a", "response_1": "b", "better_response_id": 1}],
              "no rename says which of response_0 and response_1 is the better", True),
    PublicSet("HelpSteer3", [{"context": [ASKED], "response1": "a", "response2": "b", "overall_preference": -2}],
              "no rename says which of response1 and response2 is the better", True),
    PublicSet("Nectar", [{"prompt": "Hi?", "answers": [{"answer": "a", "rank": 1.0}, {"answer": "b", "rank": 2.0}]}],
              "no rename says which of the answers is the better", True),
    PublicSet("KTO-mix-14k", [{"prompt": [ASKED], "completion": [GOOD], "label": True}],
              "train on rows of one answer with sft.yaml", True),
]  # fmt: skip
