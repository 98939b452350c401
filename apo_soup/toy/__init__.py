"""A small world that a one-million-parameter model can learn: the embedded default of `recipes/tiny`.

Problems with traces and verifiers, keyed notes hidden in filler text, short conversation and a tool call. All of it
is generated from a seed, and a problem belongs to exactly one split, whatever the seed (`splits.split_of`).
"""
