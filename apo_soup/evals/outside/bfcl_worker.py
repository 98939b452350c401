"""What bfcl-eval has and says: its problems, and its verdicts on calls.

Runs in its environment, and imports nothing of ours.

    python bfcl_worker.py problems OUTPUT.json CATEGORY ...
    python bfcl_worker.py verdicts OUTPUT.json CALLS.json

Calls are a list of `{id, category, calls}`; `calls` is a list of `{name: arguments}`, or null where none can be read.
"""

import importlib
import json
import sys
from typing import Any


def problems(category: str) -> list[dict[str, Any]]:
    """The problems of a category: messages, and its functions as tools with JSON Schemas."""
    utils = importlib.import_module("bfcl_eval.utils")
    handlers = importlib.import_module("bfcl_eval.model_handler.utils")
    types = importlib.import_module("bfcl_eval.constants.type_mappings").GORILLA_TO_OPENAPI
    # Of its styles with tools, one that leaves dots in names, which the checker is told.
    style = importlib.import_module("bfcl_eval.constants.enums").ModelStyle.FIREWORK_AI
    return [
        {
            "id": entry["id"],
            "category": category,
            "messages": entry["question"][0],
            "tools": handlers.convert_to_tool(entry["function"], types, style),
        }
        for entry in utils.load_dataset_entry(category)
    ]


def verdicts(answers: list[dict[str, Any]]) -> list[bool]:
    """Whether each answer's calls are right, as the package's own checker of syntax trees says; where no tool fits,
    whether there is none, and where one does, whether there is one.
    """
    utils = importlib.import_module("bfcl_eval.utils")
    models = importlib.import_module("bfcl_eval.constants.model_config").MODEL_CONFIG_MAPPING
    checker = importlib.import_module("bfcl_eval.eval_checker.ast_eval.ast_checker").ast_checker
    python = importlib.import_module("bfcl_eval.constants.enums").Language.PYTHON
    keeps_dots = next(name for name, model in models.items() if not model.underscore_to_dot and "_" not in name)
    functions: dict[str, Any] = {}
    right: dict[str, Any] = {}
    for category in sorted({answer["category"] for answer in answers}):
        entries = utils.load_dataset_entry(category)
        functions |= {entry["id"]: entry["function"] for entry in entries}
        if "relevance" not in category:
            truths = utils.load_ground_truth_entry(category)
            right |= {entry["id"]: truth["ground_truth"] for entry, truth in zip(entries, truths, strict=True)}
    found = []
    for answer in answers:
        name, category, calls = answer["id"], answer["category"], answer["calls"]
        if "relevance" in category:
            found.append(bool(calls) != ("irrelevance" in category))
        elif not calls:
            found.append(False)
        else:
            try:
                told = checker(functions[name], calls, right[name], python, category, keeps_dots)
            except Exception:  # it trips over values that no right call has
                told = {"valid": False}
            found.append(bool(told["valid"]))
    return found


def main() -> None:
    """Read the words, and write what they ask for."""
    what, output, *words = sys.argv[1:]
    if what == "problems":
        result: list[Any] = [problem for category in words for problem in problems(category)]
    else:
        with open(words[0], encoding="utf-8") as file:
            result = verdicts(json.load(file))
    with open(output, "w", encoding="utf-8") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
