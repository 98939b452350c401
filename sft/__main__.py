"""`python -m sft --config FILE`: see sft/train.py."""

from pipeline.errors import run_main
from pipeline.program import STATE_FLAG, quiet_libraries, report_state, training_stage
from pipeline.recipe import arguments, load


def main() -> int:
    options, overrides = arguments("sft", "Mid-training and supervised fine-tuning of one model.", STATE_FLAG)
    recipe = load(options.config, "sft", overrides)
    stage = training_stage(recipe)
    todo, code = report_state([stage], options.state)
    if todo and not options.state:
        quiet_libraries()
        from pipeline.training import leave
        from sft.train import train

        train(recipe, stage)
        leave()
    return code


run_main(main)
