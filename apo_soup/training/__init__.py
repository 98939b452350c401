"""What mid-training, fine-tuning and preference training share.

entry.py         a training file's output folder, with its fingerprint
arguments.py     TRL's arguments from a recipe, on the machine that is here
trainer.py       what both stages add to TRL's trainers
resized.py       a model with more embeddings, on disk
new_rows.py      rows of new tokens under an adapter
run.py           a training, from its last checkpoint to a folder in its place
checkpoints.py   which checkpoints are whole, and the newest
saving.py        a trained model as a plain folder, and the way to the Hub
callbacks.py     progress, and a stop before a broken step
step_rows.py     which rows of the recipe a step takes
spikes.py        steps far off those before them, told or stopped at
hang.py          a step that does not end, told
shared_folder.py a run folder that processes do not share, found
"""
