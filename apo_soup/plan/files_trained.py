"""The files that a training file stands for: itself, or one of each of its members that read the same."""

from collections.abc import Iterator

from apo_soup.config.apo import ApoFile
from apo_soup.config.members import member_recipes
from apo_soup.config.training import TrainingFile


def files_trained(recipe: TrainingFile) -> Iterator[TrainingFile]:
    """The file itself; of a file with members, each that begins with another model or reads other rows than those
    before it.

    Raises:
        UserError: a member is wrong.
    """
    if not isinstance(recipe, ApoFile) or not recipe.members:
        yield recipe
        return
    seen = []
    for member in member_recipes(recipe):
        # What a model, its tokens and its rows follow from.
        read = [
            *(member.model_name_or_path, member.model_revision, member.trust_remote_code, member.chat_template),
            *(member.chat_template_kwargs, member.dataset_mixture, member.max_length, member.overflow),
            *(member.special_tokens_in_text, member.deepspeed),
        ]
        if read not in seen:
            seen.append(read)
            yield member
