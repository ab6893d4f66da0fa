# SPDX-License-Identifier: Apache-2.0
"""Public benchmarks as tasks: by their names from the Hub, or from files with the same columns."""

import functools
import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined, TemplateError, meta

from scratch_gpt.data.rows.examples import answer_index, wikihow
from scratch_gpt.data.sources.bad_rows import BadRow, BadRows
from scratch_gpt.data.sources.source import CORPUS_SETTINGS, ROW_SETTINGS, Source, parse_sources, read_rows
from scratch_gpt.errors import UserError, did_you_mean, wrong_value
from scratch_gpt.evaluation.benchmarks.layouts import (
    ACC,
    ACC_BYTES,
    ACC_NORM,
    GROUPS,
    LAYOUTS,
    MASS,
    Layout,
)
from scratch_gpt.tasks.example import Example
from scratch_gpt.tasks.scores import best_choice
from scratch_gpt.tasks.task import CHOICE_BASELINES, CLOZE, ENDING, WRITTEN, Scores, Task


logger = logging.getLogger(__name__)

# As lm-eval renders its templates.
JINJA = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
JINJA.filters["wikihow"] = wikihow
# Columns of lists and mappings, which a table such as .csv has as text.
LISTS = ("endings", "choices", "options", "mc1_targets", "mc2_targets")
# Keys of an entry of `sources` beside those of every source.
LAYOUT, SHOTS_PATH, SHOTS_SPLIT, NUM_FEWSHOT = "layout", "fewshot_path", "fewshot_split", "num_fewshot"
LAYOUT_KEYS = (LAYOUT, SHOTS_PATH, SHOTS_SPLIT, NUM_FEWSHOT)
REFUSED = {**CORPUS_SETTINGS, **ROW_SETTINGS, "columns": "call the columns as the layout does"}


def check_layout(name: str, known: Sequence[str] = (*LAYOUTS, *GROUPS)) -> None:
    """Raise UserError if the name is not known."""
    if name not in known:
        message = f"unknown task or layout {name!r}{did_you_mean(name, known)}"
        raise UserError("unknown_layout", f"{message} (known: {', '.join(known)})", name=name)


def public_tasks(
    names: Sequence[str], declared: Sequence[dict[str, Any]], on_bad_row: str, num_fewshot: int | None
) -> dict[str, tuple[Task, dict[str, Any]]]:
    """A task of each of the named benchmarks, from the Hub, and of each source that has a layout.

    Args:
        declared: entries of `sources` with a `layout`.
        num_fewshot: examples before each question; None: as many as the layout says. An entry's own number counts first.

    Returns:
        Name -> the task, and what a result needs to be repeated: layout, path, subset, split, revision, shots.

    Raises:
        UserError: an unknown layout, a source that cannot be read, too many bad rows, such as rows that lack a column;
            shots of a layout that has none.
    """
    entries = []
    for entry in (*({"name": name, LAYOUT: name} for name in names), *declared):
        check_layout(entry[LAYOUT])
        members = GROUPS.get(entry[LAYOUT], (entry[LAYOUT],))
        for member in members:
            name = entry.get("name") or entry[LAYOUT]
            name = name if len(members) == 1 else f"{name}{member.removeprefix(entry[LAYOUT])}"
            entries.append({"path": LAYOUTS[member].path, **entry, "name": name, LAYOUT: member})
    if not entries:
        return {}
    for entry in entries:
        for key in (SHOTS_PATH, SHOTS_SPLIT):
            if not isinstance(entry.get(key), str | None):
                raise wrong_value(key, entry[key], "text", where=f"source {entry['name']!r}: ")
        if not entry["path"]:
            message = f"the layout {entry[LAYOUT]!r} has no dataset on the Hub: give its file as path"
            raise UserError("setting_missing", message, setting="path")
    sources = parse_sources(
        [{key: entry[key] for key in entry if key not in LAYOUT_KEYS} for entry in entries], REFUSED
    )
    bad_rows = BadRows(on_bad_row)
    tasks = {
        source.name: _task(source, entry, bad_rows, num_fewshot)
        for source, entry in zip(sources, entries, strict=True)
    }
    for line in bad_rows.report():
        logger.warning(line)
    return tasks


def _task(
    source: Source, entry: dict[str, Any], bad_rows: BadRows, num_fewshot: int | None
) -> tuple[Task, dict[str, Any]]:
    name, layout = source.name, LAYOUTS[entry[LAYOUT]]
    source = replace(source, split=entry.get("split", layout.split))
    count = entry.get(NUM_FEWSHOT, num_fewshot)
    count = layout.num_fewshot if count is None else count
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise wrong_value(NUM_FEWSHOT, count, "a whole number of at least 0", where=f"source {name!r}: ")
    if count and not layout.takes_shots:
        message = (
            f"num_fewshot {count}: {entry[LAYOUT]} is always asked without examples; run {name!r} without num_fewshot, or "
            "write num_fewshot: 0 into its entry of sources"
        )
        raise UserError("no_shots", message, layout=entry[LAYOUT], num_fewshot=count)
    shots = _shots_source(source, entry, layout)
    if count and shots is None:
        message = (
            f"num_fewshot {count}: {source.path} has no training split to take examples from; name fewshot_split or "
            f"fewshot_path in an entry of sources for {name!r}"
        )
        raise UserError("no_shots", message, layout=entry[LAYOUT], num_fewshot=count)
    rows, read = _read(source, layout, bad_rows)
    shown = rows if shots in (None, source) or not count else _read(shots, layout, bad_rows)[0]
    subsets = [part.subset for part in read]
    settings = {
        "layout": entry[LAYOUT],
        "path": source.path,
        "subset": subsets if len(subsets) > 1 else subsets[0],
        "split": source.split if _has_splits(source) else None,
        "revision": read[0].commit,
        "num_fewshot": count,
        "fewshot_path": shots.path if count and shots else None,
        "fewshot_split": shots.split if count and shots and _has_splits(shots) else None,
    }
    task = Task(name, lambda split: rows, num_fewshot=count, shots=lambda: shown, **task_settings(layout))
    return task, settings


def _has_splits(source: Source) -> bool:
    return source.on_hub or Path(source.path).is_dir()


def _shots_source(source: Source, entry: dict[str, Any], layout: Layout) -> Source | None:
    """Where the shots come from: as the entry says, else the Hub's training split, of a file its own rows."""
    shots, split = source, entry.get(SHOTS_SPLIT)
    if path := entry.get(SHOTS_PATH):
        (shots,) = parse_sources([{"name": source.name, "path": path}])
        split = split or ("train" if _has_splits(shots) else None)
    elif _has_splits(source):
        split = split or layout.shots_split
    if split and not _has_splits(shots):
        message = f"source {source.name!r}: {SHOTS_SPLIT} has no effect: {shots.path} is a file"
        raise UserError("setting_without_effect", message, setting=SHOTS_SPLIT)
    if split:
        return replace(shots, split=split)
    return None if shots.on_hub else shots


def _read(source: Source, layout: Layout, bad_rows: BadRows) -> tuple[list[Example], list[Source]]:
    """The rows of a benchmark, and what was read: of the Hub each of its subsets."""
    sources = [source]
    if source.on_hub and source.path == layout.path and source.subset is None:
        sources = [replace(source, subset=subset) for subset in layout.subsets]
    parse = _parser(layout, source.name)
    rows = [example for part in sources for _, example in read_rows(part, bad_rows, parse)]
    if not rows:
        raise UserError(
            "source_empty", f"source {source.name!r}: no rows in {source.path}", source=source.name
        )
    return rows, sources


def _parser(layout: Layout, name: str) -> Callable[[dict[str, Any]], Example]:
    """What makes an example of a row."""
    expressions = {
        key: JINJA.compile_expression(text, undefined_to_none=False)
        for key in ("choices", "label", "answer")
        if (text := getattr(layout, key)) is not None
    }
    prompt = JINJA.from_string(layout.prompt)
    written = [layout.prompt, *(f"{{{{{getattr(layout, key)}}}}}" for key in expressions)]
    columns = sorted(meta.find_undeclared_variables(JINJA.parse("".join(written))))
    by_subject = [layout.kind] if layout.kind and layout.description else []

    def parse(row: dict[str, Any]) -> Example:
        for column in (*columns, *by_subject):
            if row.get(column) is None:
                raise BadRow(f"no column {column!r} (columns: {', '.join(map(str, row))})")
        values = {column: _unpacked(row[column]) if column in LISTS else row[column] for column in columns}
        try:
            found = {key: expression(**values) for key, expression in expressions.items()}
            return _example(layout, name, prompt.render(**values), found, row)
        except BadRow:
            raise
        except (TemplateError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise BadRow(f"not of this layout ({error})") from None

    return parse


def _example(layout: Layout, name: str, prompt: str, found: dict[str, Any], row: dict[str, Any]) -> Example:
    kind = str(row.get(layout.kind, name)) if layout.kind else name
    if "answer" in found and not str(found["answer"]).strip():
        raise BadRow("there is no answer")
    if "choices" not in found:
        return Example(prompt, (found["answer"],), kind, prompt)
    choices = tuple(found["choices"])
    if len(choices) < 2 or not all(isinstance(choice, str) and choice for choice in choices):
        raise BadRow(f"needs at least two candidates, all of them texts, got {list(choices)!r:.60}")
    if layout.scores == (MASS,):
        right = [choice for choice, is_right in zip(choices, found["label"], strict=True) if int(is_right)]
        if not 0 < len(right) < len(choices):
            raise BadRow("needs both right and wrong candidates")
        return Example(prompt, tuple(right), kind, prompt, choices, choices.index(right[0]))
    label = answer_index(found["label"], len(choices))
    answer = found.get("answer", choices[label])
    return Example(prompt, (answer,), kind, prompt or choices[label], choices, label)


def _unpacked(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise BadRow(f"no list, as JSON writes one, but {value!r:.60}") from None


def task_settings(layout: Layout) -> dict[str, Any]:
    """The settings of a task of this layout."""

    def ask(example: Example) -> str:
        return example.choices[example.label] if layout.form == ENDING else example.prompt

    settings: dict[str, Any] = {
        "message": ask,
        "continuation": ask,
        "as_text": True,
        "form": layout.form,
        "delimiter": layout.delimiter,
        "description": lambda example: layout.description.format(kind=example.kind.replace("_", " ")),
        "first_shots": layout.first_shots,
    }
    if layout.form == WRITTEN:
        settings |= {"stop": layout.stop, "max_new_tokens": layout.max_new_tokens}
        return settings | {"score": score_gsm8k}
    if layout.form == CLOZE:
        return settings | {
            "score": lambda prediction, example: {ACC: float(prediction in example.references)}
        }
    if layout.scores == (MASS,):
        return settings | {
            "score": score_choices((ACC,)),
            "rate": probability_mass,
            "chance": share_of_right,
        }
    # where the right candidate is always the first, its position is no strategy
    names = ("longest", "most_common_position") if layout.label_varies else ("longest",)
    return settings | {
        "score": score_choices(layout.scores),
        "rate": functools.partial(rate_choices, layout.scores),
        "chance": functools.partial(random_choices, layout.scores),
        "baselines": {name: CHOICE_BASELINES[name] for name in names},
    }


def score_choices(names: Sequence[str]) -> Callable[[str, Example], Scores]:
    """What one chosen candidate gets, by any of the scores."""
    return lambda prediction, example: dict.fromkeys(
        names, float(prediction == example.choices[example.label])
    )


def rate_choices(names: Sequence[str], log_likelihoods: Sequence[float], example: Example) -> Scores:
    """Whether the right candidate is the likeliest: as a whole, per character, per byte."""
    lengths = {
        ACC: [1 for _ in example.choices],
        ACC_NORM: [len(choice) for choice in example.choices],
        ACC_BYTES: [len(choice.encode()) for choice in example.choices],
    }
    return {name: float(best_choice(log_likelihoods, lengths[name]) == example.label) for name in names}


def random_choices(names: Sequence[str], task: Task, examples: Sequence[Example]) -> Scores:
    """What drawing one of the candidates gets on average."""
    return dict.fromkeys(names, float(np.mean([1 / len(example.choices) for example in examples])))


def probability_mass(log_likelihoods: Sequence[float], example: Example) -> Scores:
    """The probability of the right candidates, where that of all candidates is 1."""
    weights = np.exp(np.array(log_likelihoods) - max(log_likelihoods))
    right = np.array([choice in example.references for choice in example.choices])
    return {ACC: float(weights[right].sum() / weights.sum())}


def share_of_right(task: Task, examples: Sequence[Example]) -> Scores:
    """The probability of the right candidates where all are equally likely."""
    return {ACC: float(np.mean([len(example.references) / len(example.choices) for example in examples]))}


# lm-eval's filters for GSM8K, and what its exact match removes, one after the other.
STRICT, FLEXIBLE = re.compile(r"#### (\-?[0-9\.\,]+)"), re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
REMOVED = (",", r"\$", "(?s).*#### ", r"\.$")


def score_gsm8k(prediction: str, example: Example) -> Scores:
    """Whether the number behind "####" is right, and whether the last number is."""
    strict = STRICT.findall(prediction)
    flexible = ["".join(groups).strip() for groups in FLEXIBLE.findall(prediction)]
    right = _bare_number(example.references[0])
    return {
        "strict_match": float(bool(strict) and _bare_number(strict[0]) == right),
        "flexible_extract": float(bool(flexible) and _bare_number(flexible[-1]) == right),
    }


def _bare_number(text: str) -> str:
    for pattern in REMOVED:
        text = re.sub(pattern, "", text)
    return text.lower()
