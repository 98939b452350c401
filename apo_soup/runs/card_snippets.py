"""The code that a card shows: how to ask the model in both modes, and with tools."""

# Where the snippets name the model, until it has a place on the Hub.
MODEL_PLACEHOLDER = "FOLDER_OR_HUB_ID"
USE_SNIPPET = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

name = "FOLDER_OR_HUB_ID"
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(name)


def ask(messages, **template):
    prompt = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True, **template
    )
    output = model.generate(**prompt, max_new_tokens=512)
    return tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=False)


messages = [{"role": "user", "content": "What is 4 + 5?"}]
print(ask(messages, enable_thinking=True))  # reasons between think tags, then answers
print(ask(messages, enable_thinking=False))  # answers at once
```"""
TOOLS_SNIPPET = """```python
tool = {
    "name": "add",
    "description": "Add two whole numbers.",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
}
# A call comes back as JSON between tool_call tags; send its result as a turn of the role tool.
print(ask([{"role": "user", "content": "Use the tool: What is 17 + 25?"}], enable_thinking=False, xml_tools=[tool]))
```"""
