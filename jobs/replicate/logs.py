"""What the trainer's log says: the one parser for stage, step, loss and the rest, and how a growing log is appended.

The log is the only channel for progress. Per-step news are tqdm's lines (`Epoch 1/10 Steps: 12%|█▏ | 120/1000 [01:02<07:33,
1.94it/s, lr=1e-05, step_loss=0.12]`); older and mended trainers also print `[TRAINING] Step 120/1000 (12.0%)`.

Source: SimpleTuner's Cog predictor (simpletuner/cog.py) for the marks; SimpleTuner docs, cloud training, for the stages.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

# The five words that SimpleTuner's clients know.
PREPROCESSING, WARMUP, SAVING, VALIDATION, TRAINING = "Preprocessing", "Warmup", "Saving checkpoint", "Validation", "Training"

LAST_LOG_CHARACTERS = 80
LINE_CHARACTERS = 4096  # of a line without an end we keep no more
ERRORS_KEPT, ERROR_CHARACTERS, STEPS_KEPT = 5, 500, 100

# What ends a line for whoever counts them. A progress bar is drawn anew behind a carriage return alone.
LINE_BREAK = re.compile(r"\r\n|\n|\r")

GAP = "\n[LOG] Lines are missing here: the provider had dropped them before they were read.\n"

_LINE_END = re.compile(r"[\r\n]")
_BAR_BODY = "%|"
_LAST_NUMBER = re.compile(r"[\d.,]+\s*$")
_FIRST_NUMBER = re.compile(r"\d")
_BAR = re.compile(r"Epoch\s+\d+\s*/\s*\d+\s*,?\s*Steps:?\s*\d+%\|[^|]*\|\s*(\d{1,9})/(\d{1,9})\s\[([^\]]*)")
_PACE = re.compile(r"[\d:]+<(\d{1,5}(?::\d\d){1,2}),\s*(\d{1,9}(?:\.\d{1,9})?)\s*(it/s|s/it)")
_STEP = re.compile(r"(?<![\w.-])step:?\s+(\d{1,9})(?:\s*/\s*|\s+of\s+)(\d{1,9})(?!\w)", re.IGNORECASE)
_TOTAL = re.compile(r"Total optimization steps\s*=\s*(\d{1,9})(?!\d)")
_NUMBER = r"[=:\s]+([-+]?(?:\d+(?:\.\d*)?(?:e[-+]?\d+)?|nan|inf(?:inity)?))(?!\w)"
_LOSS = re.compile(rf"(?<![a-z])(?:step_)?loss{_NUMBER}", re.IGNORECASE)
_RATE = re.compile(rf"(?<!\w)(?:lr|learning[ _]rate){_NUMBER}", re.IGNORECASE)

_TRAINS = re.compile(r"\*\*\*\*\* Running training \*\*\*\*\*|(?<!\w)epoch:?\s+\d+\s*/\s*\d+", re.IGNORECASE)

_STAGE_MARK = re.compile(r"\[STAGE\]\s+(\S+)\s+([^:(]+)")
# What the trainer says of sample images: that they are drawn, or on their way to where results are published.
_SAMPLES_MARK = re.compile(r"\[EVENT\]\s+training\.validation\b|\[TRAINING\]\s+Status:\s*uploading_validation_samples\b")
_ERROR_MARK = re.compile(r"\[ERROR\]\s*(.*)|\[TRAINING\]\s+(Training failed:.*)")
_DEBUG_LOG = "=== debug.log tail ==="
# In this order, as SimpleTuner looks for them; settings such as `lr_warmup_steps` or `--validation_prompt` are no news.
_WORDS = (
    (re.compile(r"preprocessing|(?<!up)(?<!un)(?<!off)loading", re.IGNORECASE), PREPROCESSING),
    (re.compile(r"(?<![\w-])warm(?:ing)?[ -]?up(?!\w|\s+steps?\s*[:=])", re.IGNORECASE), WARMUP),
    (re.compile(r"(?<![\w-])checkpoints?(?!\w)", re.IGNORECASE), SAVING),
    (re.compile(r"(?<![\w-])validat(?:e[sd]?|ing|ions?)(?!\w)", re.IGNORECASE), VALIDATION),
)


@dataclass(frozen=True)
class Point:
    """Loss and learning rate at a step; one of them may be unknown, a loss that is no number is unknown."""

    step: int
    loss: float | None
    learning_rate: float | None


@dataclass
class ProgressParser:
    """Reads a log as it grows. Between two pieces its `state` can be kept as JSON and resumed in another process.

    `rate` is in steps a second, `seconds_left` is the trainer's own guess. `checkpoints` are the steps after which one
    was saved, `validations` those for which the trainer spoke of sample images, `errors` the last few that it named.
    """

    stage: str = TRAINING
    step: int | None = None
    total_steps: int | None = None
    loss: float | None = None
    learning_rate: float | None = None
    rate: float | None = None
    seconds_left: int | None = None
    checkpoints: list[int] = field(default_factory=list)
    validations: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    last_line: str = ""
    rest: str = ""
    is_in_debug_log: bool = False

    @classmethod
    def resume(cls, state: Mapping[str, Any] | None) -> Self:
        """Go on from a kept `state`; nothing, an empty one, and keys of another release are fine."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in (state or {}).items() if name in known})

    @property
    def state(self) -> dict[str, Any]:
        """What to keep until more of the log comes: plain JSON of a few kilobytes."""
        return asdict(self)

    @property
    def percent(self) -> float | None:
        """Say how far training is, 0 to 100; it stays through the stages between steps. Epochs are no progress."""
        return round(100 * self.step / self.total_steps, 1) if self.step is not None and self.total_steps else None

    @property
    def last_log(self) -> str:
        """Show the last line that is not blank, at most 80 characters of it."""
        line = self.rest.strip() or self.last_line
        return line if len(line) <= LAST_LOG_CHARACTERS else f"{line[: LAST_LOG_CHARACTERS - 3]}..."

    def feed(self, text: str) -> list[Point]:
        """Read the next piece of the log and return the new points of the series, in the order of their steps.

        A line is read once it has ended. A step may come again in a later piece with better figures, which then count.
        """
        *lines, rest = _LINE_END.split(self.rest + text)
        self.rest = rest[:LINE_CHARACTERS]
        points: dict[int, Point] = {}
        for line in lines:
            point = self._read(line[:LINE_CHARACTERS].strip())
            if point:
                points[point.step] = point
        return list(points.values())

    def finish(self) -> list[Point]:
        """Read the last line of a log that has ended, though nothing ends that line."""
        return self.feed("\n") if self.rest else []

    def _read(self, line: str) -> Point | None:
        if not line:
            return None
        self.last_line = line
        self.is_in_debug_log = self.is_in_debug_log or line == _DEBUG_LOG
        if self.is_in_debug_log:  # an excerpt of what happened before
            return None
        if error := _ERROR_MARK.match(line):
            self._keep_error((error[1] or error[2] or "").strip())
            return None
        if mark := _STAGE_MARK.match(line):
            self.stage = _stage_of_label(mark[2].strip(), is_over=mark[1][0] in "✓✗")
            if self.stage == VALIDATION:
                self.validations = self._with_step(self.validations)
            return None
        if _SAMPLES_MARK.match(line):
            self.validations = self._with_step(self.validations)
        return self._read_numbers(line)

    def _read_numbers(self, line: str) -> Point | None:
        bars = _BAR.findall(line)
        if bars:
            step, total, figures = bars[-1]
            self.stage = TRAINING
            self._read_pace(figures)
            return self._advance(int(step), int(total), figures)
        if total := _TOTAL.search(line):
            self.total_steps = self.total_steps or int(total[1]) or None
        if line.startswith("[CHECKPOINT]") and "saved" in line:
            self.checkpoints = self._with_step(self.checkpoints)
        notice = _STEP.search(line)
        self.stage = _stage_of_words(line, has_step=notice is not None) or self.stage
        # Other loops count steps too (sampling for a validation does), so that a notice does not change the total.
        if notice is None or self.total_steps not in (None, int(notice[2])):
            return None
        return self._advance(int(notice[1]), int(notice[2]), line)

    def _with_step(self, steps: list[int]) -> list[int]:
        """The steps and the one of now, once it is known."""
        return steps if self.step is None or self.step in steps else [*steps, self.step][-STEPS_KEPT:]

    def _advance(self, step: int, total: int, figures: str) -> Point | None:
        """Take the figures of a step, unless it is an old one."""
        if total <= 0 or step > total or (total == self.total_steps and self.step is not None and step < self.step):
            return None
        is_again = step == self.step
        self.step, self.total_steps = step, total
        loss, learning_rate = _figure(_LOSS, figures), _figure(_RATE, figures)
        if loss is not None:
            self.loss = _finite(loss)
        if learning_rate is not None:
            self.learning_rate = _finite(learning_rate)
        if loss is None and (learning_rate is None or is_again):
            return None
        return Point(step, _finite(loss), _finite(learning_rate))

    def _read_pace(self, figures: str) -> None:
        pace = _PACE.match(figures.strip())
        if not pace:
            self.rate = self.seconds_left = None  # tqdm shows question marks until it knows
            return
        self.seconds_left = _seconds(pace[1])
        number = float(pace[2])
        per_second = number if pace[3] == "it/s" else 1 / number if number else 0.0
        self.rate = per_second or None

    def _keep_error(self, text: str) -> None:
        text = text[:ERROR_CHARACTERS]
        if text and text not in self.errors:
            self.errors = [*self.errors, text][-ERRORS_KEPT:]


def read(text: str) -> ProgressParser:
    """Read a whole log at once."""
    parser = ProgressParser()
    parser.feed(text)
    parser.finish()
    return parser


@dataclass(frozen=True)
class Line:
    """One line of a log with its number, from 1 on, without what ends it."""

    number: int
    text: str
    is_redrawn: bool = False

    @property
    def is_bar(self) -> bool:
        """Whether it is one state of something that is drawn again and again."""
        return self.is_redrawn or _BAR_BODY in self.text

    @property
    def label(self) -> str:
        """What all states of one bar have in common: the words before the first number that changes."""
        before, bar, _ = self.text.partition(_BAR_BODY)
        return (_LAST_NUMBER.sub("", before) if bar else _FIRST_NUMBER.split(self.text, maxsplit=1)[0]).strip()


class Lines:
    """Cuts a growing text into whole lines. One that goes on, or may end in two characters, waits in `rest`."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.rest = ""

    def feed(self, text: str) -> list[Line]:
        """The lines that this ends."""
        text = self.rest + text
        held = text[-1:] if text.endswith("\r") else ""
        found, start = [], 0
        for end in LINE_BREAK.finditer(text, 0, len(text) - len(held)):
            self.number += 1
            found.append(Line(self.number, text[start : end.start()], is_redrawn=end[0] == "\r"))
            start = end.end()
        self.rest = text[start:]
        return found

    def finish(self) -> list[Line]:
        """The last line of a text that has ended, though perhaps nothing ends that line."""
        if not self.rest:
            return []
        self.number += 1
        last, self.rest = Line(self.number, self.rest.removesuffix("\r")), ""
        return [last]


def whole_lines(text: str) -> int:
    """How many lines end in a text for certain: a carriage return at its end may be half of one."""
    return sum(1 for _ in LINE_BREAK.finditer(text, 0, len(text) - text.endswith("\r")))


def unended(text: str) -> str:
    """What stands behind the last line of a text that has ended for certain."""
    ends = [0, *(found.end() for found in LINE_BREAK.finditer(text, 0, len(text) - text.endswith("\r")))]
    return text[ends[-1] :]


def without_repaints(lines: Iterable[Line]) -> Iterator[Line]:
    """The lines as a terminal would have left them: of each bar the last state."""
    before: Line | None = None
    for line in lines:
        if before is not None and not (before.is_bar and before.label == line.label):
            yield before
        before = line
    if before is not None:
        yield before


def new_text(length: int, text: str, *, head: str = "", tail: str = "") -> str:
    """Return what to append to `length` kept characters of a log, now that the provider shows `text` as the whole of it.

    A log only grows, so that a text no longer than what is kept is old news. At about 10 MB the provider begins to drop
    the front; to see that, give the first and last few hundred characters that are kept as `head` and `tail`. What lies
    behind the tail is then new; where even the tail is gone, all of it is, behind a line that says so.
    """
    starts_alike = text.startswith(head[: len(text)])
    if starts_alike and len(text) <= length:
        return ""
    if starts_alike and text[:length].endswith(tail):
        return text[length:]
    overlap = text.rfind(tail) if tail else -1
    if overlap >= 0:
        return text[overlap + len(tail) :]
    return "" if text and tail.endswith(text) else GAP + text


def _stage_of_label(label: str, *, is_over: bool) -> str:
    """Translate the trainer's own name of a stage; after saving and validating it trains on."""
    words = label.lower()
    if words.startswith("saving"):
        return TRAINING if is_over else SAVING
    if "validation" in words:
        return TRAINING if is_over else VALIDATION
    if "warmup" in words or "warming up" in words:
        return WARMUP
    return TRAINING if "training" in words else PREPROCESSING


def _stage_of_words(line: str, *, has_step: bool) -> str | None:
    """Guess the stage from a line in plain words; None where it says nothing."""
    if line.startswith(("[WARN]", "[COG]")):
        return None
    if not line.startswith("[TRAINING]"):
        for pattern, stage in _WORDS:
            if pattern.search(line):
                return stage
    return TRAINING if has_step or _TRAINS.search(line) else None


def _figure(pattern: re.Pattern[str], figures: str) -> float | None:
    """Find a number, which may be NaN; None where it is not mentioned."""
    found = pattern.search(figures)
    return float(found[1]) if found else None


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _seconds(clock: str) -> int:
    """Read tqdm's `MM:SS` or `H:MM:SS`."""
    seconds = 0
    for part in clock.split(":"):
        seconds = seconds * 60 + int(part)
    return seconds
