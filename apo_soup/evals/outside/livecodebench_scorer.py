"""LiveCodeBench's own custom evaluation, on the problems of a file in place of a whole release of the Hub's.

Runs in LiveCodeBench's environment and in its repository's folder: it imports nothing of ours.

    python livecodebench_scorer.py PROBLEMS.jsonl --custom_output_file ANSWERS.json [its other options]
"""

import importlib
import json
import sys


def main() -> None:
    """Put the problems in the place of the release, and call its `custom_evaluator`."""
    problems = sys.argv.pop(1)
    problem = importlib.import_module("lcb_runner.benchmarks.code_generation").CodeGenerationProblem

    def load(*_: object, **__: object) -> list[object]:
        with open(problems, encoding="utf-8") as lines:
            return [problem(**json.loads(line)) for line in lines]

    importlib.import_module("lcb_runner.runner.scenario_router").load_code_generation_dataset = load  # type: ignore[attr-defined]
    importlib.import_module("lcb_runner.runner.custom_evaluator").main()


if __name__ == "__main__":
    main()
