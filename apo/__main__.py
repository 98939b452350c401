"""`python -m apo --config FILE [--member K]`: see apo/train.py."""

from pipeline.errors import UserError, run_main
from pipeline.program import STATE_FLAG, quiet_libraries, report_state, training_stage
from pipeline.recipe import arguments, load

MEMBER_FLAG = ("--member", {"type": int, "metavar": "K", "help": "train only this soup member, counted from 1"})


def main() -> int:
    options, overrides = arguments(
        "apo", "Train the members of a soup, one model folder each.", STATE_FLAG, MEMBER_FLAG
    )
    recipe = load(options.config, "apo", overrides)
    from pipeline.members import member_recipes

    members = member_recipes(recipe)
    if options.member is not None and not 1 <= options.member <= len(members):
        raise UserError(f"--member {options.member}: {recipe.path} has members 1 to {len(members)}")
    chosen = members if options.member is None else [members[options.member - 1]]
    stages = [(training_stage(member), member) for member in chosen]
    todo, code = report_state([stage for stage, _ in stages], options.state)
    if todo and not options.state:
        quiet_libraries()
        from apo.train import train
        from pipeline.training import leave

        for stage, member in stages:
            if stage in todo:
                train(member, stage)
        leave()
    return code


run_main(main)
