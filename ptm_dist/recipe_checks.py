"""Checks of a recipe across its parts. Each raises a ValueError that begins with a dotted path and says what to write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, Final

from ptm_dist.formats import FORMATS
from ptm_dist.formats.labelled import LabelledFormat
from ptm_dist.objectives import OBJECTIVES
from ptm_dist.objectives.downstream import Downstream

if TYPE_CHECKING:
    from ptm_dist.recipe_parts import Probe, Task

ADD_UNITS: Final = "add corpus.units, such as {kind: english}"


def known(path: str, used: Iterable[str], defined: Any) -> None:
    """Refuse names that are not defined."""
    for name in used:
        if name not in defined:
            raise ValueError(f"{path}: {name!r} is not defined; there are: {', '.join(sorted(defined))}")


def check_names(path: str, names: Sequence[str]) -> None:
    """Refuse a name that stands for two."""
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ValueError(f"{path}: two are named {name!r}; give one of them another name")


def check_task_types(path: str, model: Any, tasks: Sized) -> None:
    """Refuse more tasks than a table of tasks has rows."""
    rows = getattr(model, "task_types", 0)
    if rows and len(tasks) > rows:
        raise ValueError(f"{path} {rows}: there are {len(tasks)} tasks, and each needs a row; write at least that, or 0 to do without")


def check_segments(path: str, made: Task | Probe, model: Any) -> None:
    """Refuse rows of more segments than a table of segment types has rows."""
    rows = getattr(model, "segments", 0)
    if 0 < rows < made.format.segments:
        raise ValueError(f"model.segments {rows}: rows of {path} have {made.format.segments} segments; write that")


def check_task(path: str, task: Task, units: bool) -> None:
    """Refuse objectives that a format has nothing for."""
    layout = task.format
    if layout.needs_marks and not units:
        raise ValueError(f"{path}.format: {layout.kind} needs to know words; {ADD_UNITS}")
    for number, objective in enumerate(task.objectives):
        where = f"{path}.objectives.{number}"
        if objective.needs_marks and not units:
            raise ValueError(f"{where}: {objective.kind} hides words, phrases or entities here; {ADD_UNITS}")
        if (objective.kind == "bidirectional_lm") != (layout.kind == "word_streams"):
            raise ValueError(f"{where}: {objective.kind} does not go with {layout.kind}; bidirectional_lm and word_streams belong together")
        if objective.kind == "classify_sequence" and layout.classes not in (0, objective.head.classes):
            raise ValueError(f"{where}.classes is {objective.head.classes}, but {layout.kind} makes {layout.classes} classes")
    _check_labelled(path, task)
    _check_frozen(path, task)


def _check_labelled(path: str, task: Task) -> None:
    """Refuse objectives of labelled items over other rows, and such rows that nobody asks for their labels."""
    layout = task.format
    asking = [(number, found) for number, found in enumerate(task.objectives) if isinstance(found, Downstream)]
    for number, objective in asking:
        known = FORMATS.get(layout.kind)
        if not isinstance(layout, LabelledFormat) or (known and layout.kind != objective.reads_format):
            wanted = f"{objective.kind} does not go with {layout.kind}; write format: {{kind: {objective.reads_format}, ..}}"
            raise ValueError(f"{path}.objectives.{number}: {wanted}")
        views, laid = getattr(objective, "views", 1), 2 if getattr(layout, "both_orders", False) else 1
        if known and views != laid:
            raise ValueError(f"{path}.objectives.{number}.views is {views}, but the format lays each row {laid} times; write views: {laid}")
    if isinstance(layout, LabelledFormat) and layout.kind in FORMATS and not asking:
        fitting = " or ".join(sorted(kind for kind, found in OBJECTIVES.items() if getattr(found, "reads_format", "") == layout.kind))
        raise ValueError(f"{path}.objectives: nobody asks for the labels that {layout.kind} gives; add {fitting}")


def _check_frozen(path: str, task: Task) -> None:
    """Refuse objectives of which some train the backbone and some leave it as it is."""
    frozen = [isinstance(objective, Downstream) and objective.freeze for objective in task.objectives]
    if any(frozen) and not all(frozen):
        training, still = (task.objectives[frozen.index(known)].kind for known in (False, True))
        raise ValueError(f"{path}.objectives: {still} freezes the backbone that {training} trains; write freeze: false, or leave one out")


def check_heads(path: str, task: Task, tasks: Mapping[str, Task]) -> None:
    """Refuse to share the heads of a task that is not there, has other objectives, or shares those of a third."""
    if task.heads_of is None:
        return
    known(path, [task.heads_of], tasks)
    owner = tasks[task.heads_of]
    if owner.heads_of is not None:
        raise ValueError(f"{path}: {task.heads_of} has the heads of {owner.heads_of} itself; write that")
    there = [(found.kind, found.head) for found in owner.objectives]
    missing = [found.kind for found in task.objectives if (found.kind, found.head) not in there]
    if missing:
        raise ValueError(f"{path}: {task.heads_of} has no {', '.join(missing)} with as many classes and the same settings of the head")


def check_memory(path: str, task: Task, model: Any) -> None:
    """Refuse rows that do not go on as the memory of the model wants."""
    if not getattr(model, "memory_length", 0):
        return
    reused = getattr(task.format, "reused", None)
    if reused is None:
        raise ValueError(f"model.memory_length {model.memory_length}: the rows of {path} do not go on from one another; make it 0")
    if model.reuse_length != reused:
        raise ValueError(f"model.reuse_length {model.reuse_length}: the rows of {path} advance by {reused} tokens; write that")
