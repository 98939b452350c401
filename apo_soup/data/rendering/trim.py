"""From what is known of a turn, header and line break included, to what of it is trained."""

from apo_soup.data.rendering.template import Span
from apo_soup.data.rendering.turn_frame import TurnFrame


def trimmed_marks(text: str, span: Span, frame: TurnFrame, ends: tuple[str, ...]) -> Span:
    """A marked span without the header, or what of it the marks enclose, and with its end of turn."""
    start, end = span
    start += frame.enclosed(text, start)
    stripped = text[start:end].rstrip()
    if stripped.endswith(ends):
        return start, start + len(stripped)
    return start, end + end_at(text, end, ends)


def trimmed_turn(text: str, turn: Span, frame: TurnFrame, ends: tuple[str, ...]) -> Span:
    """What a loop wrote of a turn, without its header and up to its end of turn."""
    start, end = turn
    inside = text[start:end]
    header = frame.enclosed(text, start)
    if not header:
        space = len(inside) - len(inside.lstrip())
        header = frame.enclosed(text, start + space)
        header += space if header else 0
    stripped = inside.rstrip()
    if stripped.endswith(ends):
        return start + header, start + len(stripped)
    end -= next((len(tail) for tail in frame.tails if inside.endswith(tail)), 0)
    return start + header, end + end_at(text, end, ends)


def joined_spans(spans: list[Span]) -> list[Span]:
    """Spans in order, those that touch made one."""
    joined: list[Span] = []
    for start, end in spans:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def end_at(text: str, position: int, ends: tuple[str, ...]) -> int:
    """The length of the special token at a character position of the text, 0 where there is none."""
    return max((len(token) for token in ends if text.startswith(token, position)), default=0)
