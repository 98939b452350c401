"""Write docs/soup-NAME.svg, docs/merge-NAME.svg and docs/weights-NAME.svg of a run that was evaluated: the soup beside
each member, the merge beside the soup, and the scores over the weight of the soup.

python docs/soup_pictures.py NAME RUN SWEEP      (SWEEP: the folder of a sweep, such as RUN/sweep)
"""

import shutil
import sys
from pathlib import Path

from apo_soup.pages.drawing import svg_file
from apo_soup.report.run_files import read_run
from apo_soup.report.soup_and_merge import merge_figure, soup_figure

DOCS = Path(__file__).parent


def main(words: list[str]) -> int:
    """Draw what the run that `words` name holds."""
    name, run, sweep = words[0], read_run(Path(words[1])), Path(words[2])
    for kind, figure in (("soup", soup_figure(run)), ("merge", merge_figure(run))):
        if figure is None:
            print(f"{run.folder}: no soup beside members, or no merge beside a soup: evaluate them first")
            return 1
        (DOCS / f"{kind}-{name}.svg").write_text(svg_file(figure.content))
    shutil.copyfile(sweep / "sweep.svg", DOCS / f"weights-{name}.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
