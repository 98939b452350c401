"""Tasks of lm-evaluation-harness on a checkpoint: its task files, our template, modes and record of single items.

    - {name: ruler, kind: harness, tasks: [niah_single_1, ruler_vt], lengths: [4096, 8192], limit: 50}
    - {name: gsm8k, kind: harness, tasks: [gsm8k_cot_zeroshot], modes: [think, no_think], include: my/tasks}

What the harness does by itself it does: prompts, stop words, filters, scores. Two things it does not, and they change
scores of reasoning models, are done here: in think mode stop words such as a blank line do not end the reasoning, and
an answer whose reasoning never closed scores as empty, not as the trace's last number.

`task` runs a task of a suite, `task_files` writes what the harness is asked for, `models` are its model classes with
reasoning, `scores` turns its results into our metrics.
"""
