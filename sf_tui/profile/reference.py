"""The reference of all profile keys: Markdown for the guide and a JSON Schema for editors.

Both are generated from the schema. Knows nothing about how they are shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sf_tui.profile.action_schema import argument_field, argument_meaning
from sf_tui.profile.schema import current_schema
from sf_tui.profile.translate import table_name
from sf_tui.profile.values import inner_model, toml_value, wanted_text
from sf_tui.vocabulary.ops import OPS
from sf_tui.vocabulary.strategies import STRATEGIES

INTRODUCTION = """\
# Profile reference

Generated from the schema: every table and key, what it takes, and its default. `sf profile init`
writes a short profile for a model and two data sets (`--full`: every key), `sf profile check FILE`
reports every mistake with file and line, and what the run would cost, and `sf profile schema`
prints a JSON Schema for editors.
"""


def profile_reference() -> str:
    """Return the reference of all keys as Markdown, one section a table."""
    fields = current_schema().model_fields
    plain = [item for item in fields.items() if inner_model(item[1].annotation) is None]
    tables = [item for item in fields.items() if inner_model(item[1].annotation) is not None]
    sections = [INTRODUCTION, _section("At the top", "", plain)]
    for name, field in tables:
        sections += _table_sections(table_name(name), field)
    sections.append(_strategy_section())
    sections.append(_op_section())
    return "\n".join(sections)


def _table_sections(title: str, field: FieldInfo) -> Iterator[str]:
    model = inner_model(field.annotation)
    assert model is not None  # the caller checked
    yield _section(f"`{title}`", _description(model), model.model_fields.items())
    for name, inner in model.model_fields.items():
        if inner_model(inner.annotation) is not None:
            yield from _table_sections(f"[{title.strip('[]')}.{name}]", inner)


def _description(model: type[BaseModel]) -> str:
    """Return the part of a table's docstring that follows its name."""
    lines = (model.__doc__ or "").strip().splitlines()
    text = lines[0].partition(": ")[2] if lines else ""
    return text[:1].upper() + text[1:]


def _section(title: str, description: str, fields: Any) -> str:
    rows = [
        f"| `{name}` | {_cell(wanted_text(field))} | {_default(field)} | "
        f"{_cell(field.description or '')} |"
        for name, field in fields
    ]
    head = [f"## {title}", ""] + ([description, ""] if description else [])
    return "\n".join([*head, "| key | takes | default | meaning |", "|---|---|---|---|", *rows, ""])


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined and field.default_factory is None:
        return "required"
    if field.default in (None, {}, PydanticUndefined) or get_origin(field.annotation) is list:
        return "–"
    return f"`{_cell(toml_value(field.default))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _strategy_section() -> str:
    rows = [
        f"| `{one.name}` | {_cell(one.description)} | {f'`[{one.table}]`' if one.table else '–'} | "
        f"{_cell(one.old_data_of_defaults)} | {_cell(one.cost)} | {_cell(one.source)} |"
        for one in STRATEGIES.values()
    ]
    head = ["## Strategies", "", "What `strategy` can be.", ""]
    columns = ["| strategy | what it does | settings | old data | cost | source |"]
    return "\n".join([*head, *columns, "|---|---|---|---|---|---|", *rows, ""])


def _op_section() -> str:
    ops = [
        f"| `{op.name}` | {op.help} | {f'`{op.key}`' if op.key else '–'} | "
        f"{'changes the weights' if op.changes_weights else '–'} | "
        f"{', '.join(f'`{name}`' for name in op.argument_names) or '–'} |"
        for op in OPS.values()
    ]
    arguments = [
        f"| `{op.name}` | `{argument.name}` | {wanted_text(argument_field(argument))} | "
        f"{_default(argument_field(argument))} | "
        f"{_cell(argument_meaning(argument.name, [op.name]))} |"
        for op in OPS.values()
        for argument in op.arguments
    ]
    return "\n".join(
        [
            *("## Ops", "", "What `op` can be. Each op is also an action of its own name.", ""),
            *("| op | does | key | weights | arguments |", "|---|---|---|---|---|", *ops, ""),
            "Arguments are keys of `[actions.NAME]`, of a rule's `arguments`, and of `--set` in",
            *("`sf act`.", ""),
            *("| op | argument | takes | default | meaning |", "|---|---|---|---|---|"),
            *(*arguments, ""),
        ]
    )


def profile_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a profile."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **current_schema().model_json_schema(),
        "title": "sf profile",
    }


if __name__ == "__main__":
    # To write sf_tui/guide/profile.md: python -m sf_tui.profile.reference > that file.
    print(profile_reference(), end="")
