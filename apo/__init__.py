"""Anchored preference optimisation.

How a pair becomes a gradient, a file a step:

train.py            a member, from its recipe to its folder: the method, top to bottom
packed_pairs.py     pairs as one row of tokens
attention_mask.py   what each position of a row sees
scoring.py          log-probabilities of the answers
losses.py           the losses
reference_pass.py   log-probabilities under the reference; reference.py keeps them on disk
prepared_pairs.py   prepared pairs as rows of tensors
steps.py            which pairs a step covers, on ranks and in rows
trainer.py          the packed trainer: training step, evaluation, log; metrics.py has what is logged
stock_trainer.py    TRL's own trainer; which_trainer.py says when it runs
checkpoints.py      intermediate steps kept as members

`apo.pairs`, which makes preference pairs, is a stage of its own.
"""
