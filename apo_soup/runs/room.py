"""Whether a disk has room for what a stage is to write, told before it begins.

What the system says is free is what counts: quotas of a user or a project are not seen.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from apo_soup.errors import UserError
from apo_soup.progress import warning
from apo_soup.tables import size_text

# Of what is free, the share beyond which a stage says that room is tight.
_TIGHT = 0.9
# Bytes below which it is tight for files that nobody knows the size of before.
_LITTLE = 100e6


@dataclass(frozen=True)
class Room:
    """Bytes that a stage writes beside what is there: `least` it does for certain, `most` where estimates are high, and
    None where there is no estimate.

    `told` says what they are, and `cure` how there could be fewer.
    """

    least: float
    most: float | None
    told: str
    cure: str


# A manifest and one more file, in blocks of 4 KiB.
ANY_FILES = Room(2 * 4096, None, "what it writes", "name an output_dir on another disk")


def require_room(room: Room, folder: Path, where: str) -> str | None:
    """A sentence where the room on the disk of a folder is tight; None where there is enough.

    Raises:
        UserError: it cannot be enough.
    """
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if room.least > free:
        raise UserError(
            f"{where}: {place}: expected {size_text(room.least)} free for {room.told}, got {size_text(free)}; free "
            f"some (`apo-soup clean` lists what can go), or {room.cure}"
        )
    if free >= (_LITTLE if room.most is None else room.most / _TIGHT):
        return None
    up_to = "" if room.most is None else f", up to {size_text(room.most)} at once"
    return warning(
        f"{place}: {size_text(free)} are free for {room.told}{up_to}; free some (`apo-soup clean` lists what can "
        f"go), or {room.cure}"
    )
