"""Everything is declared in pyproject.toml, but for this: a wheel carries `recipes/` inside of `apo_soup`."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """Copy `recipes/` to `apo_soup/recipes`, where apo_soup/resources.py looks for them."""

    def run(self) -> None:
        """Build as always, then copy; an editable install reads the checkout's own folder."""
        super().run()
        if not self.editable_mode:
            shutil.copytree("recipes", Path(self.build_lib, "apo_soup", "recipes"), dirs_exist_ok=True)

    def get_source_files(self) -> list[str]:
        """Source files for an archive of the project, from which a wheel can be built too."""
        return [*super().get_source_files(), *(str(f) for f in Path("recipes").rglob("*") if f.is_file())]


setup(cmdclass={"build_py": BuildWithRecipes})
