"""Every mistake in a profile is told with its file, line, key and remedy, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_tui.errors import ProfileError
from sf_tui.profile import dump_profile, load_profile, parse_profile, problems_in

GOOD = """\
name = "prod"

[model]
source = "org/model"

[[tasks]]
name = "old"
data = "old.jsonl"

[[tasks]]
name = "new"
data = "new.jsonl"

[train]
learning_rate = 1e-4
steps = 50
"""


def change(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def add(text: str) -> str:
    """Append to the good profile; what is appended starts at line 17."""
    return GOOD + text


ACTION = "[actions.{0}]\nop = '{1}'\n"
RULE = "[[rules]]\nname = 'protect'\nmetric = '{metric}'\n{bound}\naction = '{action}'\n"


def rule(metric: str = "drop", bound: str = "above = 0.1", action: str = "freeze") -> str:
    return add(RULE.format(metric=metric, bound=bound, action=action))


# name -> (text, line, the message after file:line, the hint)
MALFORMED: dict[str, tuple[str, int, str, str]] = {
    "unknown key": (
        change("learning_rate", "lerning_rate"),
        15,
        "[train] unknown key 'lerning_rate'",
        "did you mean 'learning_rate'?",
    ),
    "unknown table": (
        change("[train]", "[trian]"),
        14,
        "unknown key 'trian'",
        "did you mean 'train'?",
    ),
    "unknown key at the top": (
        change('name = "prod"', 'name = "prod"\nsede = 3'),
        2,
        "unknown key 'sede'",
        "did you mean 'seed'?",
    ),
    "key of another table": (
        add("[window]\nbatch_size = 4\n"),
        18,
        "[window] unknown key 'batch_size'",
        "'batch_size' is a key of [train] and [probe]",
    ),
    "unknown key in an array of tables": (
        change('data = "new.jsonl"', 'data = "new.jsonl"\nmetrik = "nll"'),
        13,
        "[[tasks]] 'new' unknown key 'metrik'",
        "did you mean 'metric'?",
    ),
    "unknown key in a nested inline table": (
        change('data = "new.jsonl"', 'data = "new.jsonl"\ntrain = {\n  stepz = 3 }'),
        14,
        "[[tasks]] 'new' train: unknown key 'stepz'",
        "did you mean 'steps'?",
    ),
    "unknown key in a sub-table of an element": (
        add("[[tasks]]\nname = 'third'\ndata = 'c.jsonl'\n[tasks.train]\nmax_grad_nor = 1.0\n"),
        21,
        "[[tasks]] 'third' train: unknown key 'max_grad_nor'",
        "did you mean 'max_grad_norm'?",
    ),
    "wrong value in a nested table": (
        change('data = "new.jsonl"', 'data = "new.jsonl"\ntrain.batch_size = 0'),
        13,
        "[[tasks]] 'new' train: batch_size = 0: must be a whole number of at least 1",
        "the default is batch_size = 16",
    ),
    "unknown key behind a dotted key": (
        change("steps = 50", "steps = 50\nfreeze.layerz = 2\nfreeze.layers = 2"),
        17,
        "[train.freeze] unknown key 'layerz'",
        "did you mean 'layers'?",
    ),
    "number as text": (
        change("steps = 50", 'steps = "50"'),
        16,
        '[train] steps = "50": must be a whole number of at least 1, not text',
        "write it without quotes: steps = 50",
    ),
    "float for a whole number": (
        change("steps = 50", "steps = 50.0"),
        16,
        "[train] steps = 50.0: must be a whole number of at least 1, not a number",
        "write it as a whole number: steps = 50",
    ),
    "true for a number": (
        change("1e-4", "true"),
        15,
        "[train] learning_rate = true: must be a number above 0, not true or false",
        "the default is learning_rate = 1e-05",
    ),
    "number for a bool": (
        change("steps = 50", "length_grouped = 1"),
        16,
        "[train] length_grouped = 1: must be true or false, not a whole number",
        "the default is length_grouped = true",
    ),
    "infinite number": (
        change("1e-4", "inf"),
        15,
        "[train] learning_rate = inf: must be a number above 0",
        "the default is learning_rate = 1e-05",
    ),
    "whole number too large for a float": (
        change("1e-4", "1" + "0" * 400),
        15,
        f"[train] learning_rate = 1{'0' * 58}…: must be a number above 0",
        "the default is learning_rate = 1e-05",
    ),
    "not a number": (
        add("[guard]\nnew_accuracy = nan\n"),
        18,
        "[guard] new_accuracy = nan: must be a share from 0 to 1",
        "omit 'new_accuracy' for the default",
    ),
    "share beyond one": (
        add("[guard]\nold_accuracy = 80\n"),
        18,
        "[guard] old_accuracy = 80: must be a share from 0 to 1",
        "omit 'old_accuracy' for the default",
    ),
    "number for text": (
        change('name = "prod"', "name = 3"),
        1,
        "name = 3: must be a name of letters, digits, '.', '-' and '_' (it becomes part of the "
        "run's id), not a whole number",
        'put it into quotes: name = "3"',
    ),
    "date for text": (
        change('"org/model"', "2024-01-01"),
        4,
        "[model] source = 2024-01-01: must be text on one line that is not empty, not a date or "
        "time",
        'put it into quotes: source = "2024-01-01"',
    ),
    "name that would leave the runs' folder": (
        change('"prod"', '"../prod"'),
        1,
        "name = \"../prod\": must be a name of letters, digits, '.', '-' and '_' (it becomes "
        "part of the run's id)",
        'for example name = "my-name"',
    ),
    "unknown choice": (
        add("[biography]\nquestion_form = 'othr'\n"),
        18,
        '[biography] question_form = "othr": must be one of same, other',
        "did you mean 'other'?",
    ),
    "wrong pair": (
        change("steps = 50", "betas = [0.9]"),
        16,
        "[train] betas = [0.9]: must be two numbers from 0 up to but not 1, like [0.9, 0.95]",
        "the default is betas = [0.9, 0.95]",
    ),
    "wrong held-out part": (
        change('data = "old.jsonl"', 'data = "old.jsonl"\nheld_out = 1.5'),
        9,
        "[[tasks]] 'old' held_out = 1.5: must be a share between 0 and 1, a number of rows, or a "
        "file",
        "omit 'held_out' for the default",
    ),
    "unknown field of a schema of one's own": (
        change('data = "old.jsonl"', 'data = "old.jsonl"\nfields = {promt = "q"}'),
        9,
        "[[tasks]] 'old' fields: unknown key 'promt'",
        "did you mean 'prompt'?",
    ),
    "scalar for a table": (
        change("[train]\n", "[x]\n").replace('name = "prod"', 'name = "prod"\ntrain = 3'),
        2,
        "train = 3: must be a table, not a whole number",
        "write it as a table: [train]",
    ),
    "one bracket for two": (
        change('[[tasks]]\nname = "old"', '[tasks]\nname = "old"').replace(
            '[[tasks]]\nname = "new"\ndata = "new.jsonl"\n', ""
        ),
        6,
        'tasks = {name = "old", data = "old.jsonl"}: must be a list of tables, not a table',
        "write it as a table: [[tasks]] with two brackets",
    ),
    "two brackets for one": (
        change("[train]", "[[train]]"),
        14,
        "train = [{learning_rate = 0.0001, steps = 50}]: must be a table, not a list",
        "write it as a table: [train]",
    ),
    "missing key": (
        change('data = "new.jsonl"\n', ""),
        10,
        "[[tasks]] 'new' the key 'data' is missing",
        'add data = "biography:new": biography:NAME, a JSONL, JSON, CSV or parquet file, or a '
        "datasets id",
    ),
    "missing name of an element": (
        change('name = "new"\n', ""),
        10,
        "[[tasks]] number 2 the key 'name' is missing",
        'add name = "my-name": name in charts, rules and events',
    ),
    "missing table": (
        change('[model]\nsource = "org/model"\n', ""),
        1,
        "[model] is missing",
        "add [model] with source",
    ),
    "no task at all": (
        'name = "a"\ntasks = []\nmodel.source = "org/model"\n',
        2,
        "there is no task",
        "add [[tasks]] with name and data",
    ),
    "task twice": (
        change('name = "new"', 'name = "old"'),
        11,
        "[[tasks]] 'old' name = 'old' is already the name of another task (prod.toml:7)",
        "give one of them another name",
    ),
    "task named like the recovery's stage": (
        change('name = "new"', 'name = "replay"'),
        11,
        "[[tasks]] 'replay' name = 'replay' is reserved for the stage that [replay_stage] adds",
        "give the task another name",
    ),
    "later task that isn't learnt": (
        change('data = "new.jsonl"', 'data = "new.jsonl"\nlearn = false'),
        13,
        "[[tasks]] 'new' learn = false: only the first task can be used as already known",
        "remove learn; a task that is only watched comes first",
    ),
    "nothing to train": (
        change('[[tasks]]\nname = "new"\ndata = "new.jsonl"\n', ""),
        7,
        "[[tasks]] 'old' there is nothing to train: the first task counts as already known",
        "add a second task, or set learn = true",
    ),
    "unknown biography data": (
        change("old.jsonl", "biography:odl"),
        8,
        "[[tasks]] 'old' data = \"biography:odl\": there is no such data",
        "did you mean 'biography:old'?",
    ),
    "unknown kind of model": (
        change("org/model", "starters:x"),
        4,
        '[model] source = "starters:x": unknown kind of source',
        "write starter:NAME, package:NAME/FILE, a directory, a Hugging Face id, a .gguf file "
        "or random",
    ),
    "random model without a shape": (
        change("org/model", "random"),
        4,
        "[model] a random model needs [model.config] with a model_type",
        'for example model_type = "gpt_neox", with hidden_size, num_hidden_layers, …',
    ),
    "random model without a tokenizer": (
        change('"org/model"', '"random"\nconfig.model_type = "llama"'),
        4,
        "[model] a random model has no tokenizer of its own",
        "add tokenizer = a directory or a Hugging Face id",
    ),
    "shape of a model that has one": (
        change('"org/model"', '"org/model"\n[model.config]\nmodel_type = "llama"'),
        5,
        "[model] config goes with a random model only",
        'remove it, or set source = "random"',
    ),
    "strategy of a later version": (
        change("steps = 50", 'strategy = "lamol"'),
        16,
        "[train] strategy 'lamol' does not exist in this version",
        "choose from: seq, freeze, anchor, replay, ewc, l2-start",
    ),
    "metric of a later version": (
        rule("knowledge"),
        19,
        "[[rules]] 'protect' metric 'knowledge' does not exist in this version",
        "choose from: drop, kl, old_accuracy, new_accuracy, loss, grad_norm, drift",
    ),
    "misspelt op": (
        add(ACTION.format("hold", "freez")),
        18,
        '[actions.hold] op = "freez": must be one of freeze, unfreeze, anchor, unanchor, pause, '
        "resume, checkpoint, rollback, diagnose, recover, shift-edit, spectral-edit, interpolate, "
        "cancel, ask, stop",
        "did you mean 'freeze'?",
    ),
    "action without an op": (
        add("[actions.hold]\nkey = 'h'\n"),
        17,
        "[actions.hold] the key 'op' is missing",
        'add op = "freeze": op to run',
    ),
    "argument of another op": (
        add(ACTION.format("halt", "pause") + "layers = 2\n"),
        19,
        "[actions.halt] op 'pause' takes no argument 'layers'",
        "it belongs to op freeze",
    ),
    "argument of two other ops": (
        add(ACTION.format("halt", "pause") + "strength = 2\n"),
        19,
        "[actions.halt] op 'pause' takes no argument 'strength'",
        "it belongs to ops anchor and recover",
    ),
    "argument that is shared, of an op that doesn't take it": (
        add(ACTION.format("ask", "diagnose") + "examples = 5\nsteps = 9\n"),
        20,
        "[actions.ask] op 'diagnose' takes no argument 'steps'",
        "it belongs to op recover",
    ),
    "diagnosis without an example": (
        add(ACTION.format("ask", "diagnose") + "examples = 0\n"),
        19,
        "[actions.ask] examples = 0: must be a whole number of at least 1",
        "omit 'examples' for the default",
    ),
    "anchor that holds nothing": (
        add(ACTION.format("hold", "anchor") + "strength = 0\n"),
        19,
        "[actions.hold] strength = 0: must be a number above 0",
        "omit 'strength' for the default",
    ),
    "edit of nothing": (
        add(ACTION.format("edit", "shift-edit") + "alpha = 0.0\n"),
        19,
        "[actions.edit] alpha = 0.0: must be a number above 0 and up to 1",
        "the default is alpha = 1.0",
    ),
    "interpolation that keeps all": (
        add(ACTION.format("edit", "interpolate") + "keep = 1\n"),
        19,
        "[actions.edit] keep = 1: must be a share from 0 up to but not 1",
        "the default is keep = 0.7",
    ),
    "misspelt argument of a later op": (
        add(ACTION.format("edit", "shift-edit") + "aplha = 0.5\n"),
        19,
        "[actions.edit] unknown key 'aplha'",
        "did you mean 'alpha'?",
    ),
    "unknown argument": (
        add(ACTION.format("hold", "freeze") + "layer = 2\n"),
        19,
        "[actions.hold] unknown key 'layer'",
        "did you mean 'layers'?",
    ),
    "key twice": (
        add(
            ACTION.format("one", "freeze")
            + "key = 'x'\n"
            + ACTION.format("two", "unfreeze")
            + "key = 'x'\n"
        ),
        22,
        '[actions.two] key = "x" is also the key of [actions.one] (prod.toml:19)',
        "give one of them another key",
    ),
    "key of the console's": (
        add(ACTION.format("one", "freeze") + "key = 'q'\n"),
        19,
        '[actions.one] key = "q": this key is reserved for the console',
        "reserved: q ? / [ ] e R s z l t n p m : < > tab escape ctrl+l; choose another",
    ),
    "key that tmux takes": (
        add(ACTION.format("one", "freeze") + "key = 'ctrl+f'\n"),
        19,
        '[actions.one] key = "ctrl+f": must be a letter, a digit, "space", "f1" to "f12" or an '
        'arrow ("up", "down", …)',
        "keys with ctrl or alt are lost in tmux; use a letter or digit",
    ),
    "key that stops a run": (
        add("[actions.stop]\nkey = 'x'\n"),
        18,
        "[actions.stop] op 'stop' takes no key, so that no slip of a finger ends a run",
        "take the key away; stopping is in the palette and in `sf stop`",
    ),
    "name that can't be typed": (
        add(ACTION.format('"Hold it"', "freeze")),
        17,
        "[actions] 'Hold it' can't be the name of an action",
        "use small letters, digits, '-' and '_'",
    ),
    "rule with an unknown action": (
        rule(action="freze"),
        21,
        "[[rules]] 'protect' action 'freze' does not exist",
        "did you mean 'freeze'?",
    ),
    "rule without a bound": (
        rule(bound="once = false"),
        17,
        "[[rules]] 'protect' the bound is missing",
        "add above or below = a number",
    ),
    "rule with two bounds": (
        rule(bound="above = 0.1\nbelow = 0.2"),
        21,
        "[[rules]] 'protect' above and below are both given",
        "make it two rules of one bound each",
    ),
    "rule in percent": (
        rule(bound="above = 20"),
        20,
        "[[rules]] 'protect' above = 20: 'drop' is a share and never goes beyond 1",
        "write a share, e.g. above = 0.2",
    ),
    "rule with a wrong argument": (
        rule() + "arguments = {layers = 2, depth = 1}\n",
        22,
        "[[rules]] 'protect' arguments: op 'freeze' takes no argument 'depth'",
        "arguments: layers, embeddings",
    ),
    "rule with another op's argument": (
        rule(action="anchor") + "arguments = {examples = 2}\n",
        22,
        "[[rules]] 'protect' arguments: op 'anchor' takes no argument 'examples'",
        "it belongs to ops diagnose and recover",
    ),
    "rule that anchors by a wrong weight": (
        rule(action="anchor") + "arguments = {strength = -1}\n",
        22,
        "[[rules]] 'protect' arguments: strength = -1: must be a number above 0",
        "",
    ),
    "rule on a task that nobody watches": (
        rule().replace('data = "old.jsonl"', 'data = "old.jsonl"\nwatch = false'),
        20,
        "[[rules]] 'protect' metric 'drop' is never measured: no earlier task is watched",
        "watch a task before the last one, or remove the rule",
    ),
    "rule on a divergence that nothing measures": (
        rule(metric="kl"),
        19,
        "[[rules]] 'protect' metric 'kl' is never measured: it compares the start model's own "
        "answers, which only a watched training without old examples is scored on",
        'use metric = "drop"',
    ),
    "guard of nats": (
        add("[guard]\nold_accuracy = 0.8\n").replace('"old.jsonl"', '"old.jsonl"\nmetric = "nll"'),
        19,
        "[guard] old_accuracy is a share, and task 'old' is measured in nats (nll)",
        "remove the guard, or give the task another metric",
    ),
    "strategy freeze without its table": (
        change("steps = 50", 'strategy = "freeze"'),
        16,
        "[train] strategy 'freeze' needs its settings",
        "add [train.freeze] with layers (and embeddings)",
    ),
    "freeze table without the strategy": (
        add("[train.freeze]\nlayers = 2\n"),
        17,
        "[train] a freeze table goes with strategy 'freeze', and strategy is 'seq'",
        'set strategy = "freeze", or take the table away',
    ),
    "freeze table with strategy anchor": (
        change("steps = 50", 'strategy = "anchor"\nfreeze.layers = 2'),
        17,
        "[train] a freeze table goes with strategy 'freeze', and strategy is 'anchor'",
        'set strategy = "freeze", or take the table away',
    ),
    "scalar for a table within a table": (
        change("steps = 50", "freeze = 2"),
        16,
        "[train] freeze = 2: must be a table, not a whole number",
        "write it as a table: [train.freeze]",
    ),
    "table that stands within another": (
        change("steps = 50", "anchor = {strength = 2}"),
        16,
        "[train] unknown key 'anchor'",
        "[anchor] is a table of its own, not part of another",
    ),
    "strategy freeze of one stage without its table": (
        change('data = "new.jsonl"', 'data = "new.jsonl"\ntrain = {strategy = "freeze"}'),
        13,
        "[[tasks]] 'new' train: strategy 'freeze' needs its settings",
        "add freeze = {layers = 2}",
    ),
    "steps and epochs": (
        change("steps = 50", "steps = 50\nepochs = 2"),
        17,
        "[train] steps and epochs are both given",
        "take one of them away",
    ),
    "micro-batch larger than the batch": (
        change("steps = 50", "batch_size = 4\nmicro_batch_size = 8"),
        17,
        "[train] micro_batch_size = 8 is more than batch_size = 4",
        "a batch is worked through in micro-batches; make them no larger than it",
    ),
    "recovery of an unknown task": (
        add('[replay_stage]\nsteps = 10\ntask = "odl"\n'),
        19,
        "[replay_stage] no task is named 'odl'",
        "did you mean 'old'?",
    ),
    "recovery that says twice how long it is": (
        add("[replay_stage]\nsteps = 10\ntrain = {steps = 5}\n"),
        19,
        "[replay_stage.train] 'steps' is not allowed here: "
        "[replay_stage] steps sets the length of the stage",
        "set steps in [replay_stage]",
    ),
    "too few people": (
        add("[biography]\npeople = 1\n"),
        18,
        "[biography] people = 1: must be at least 2",
        "some people are trained on, the others are held out",
    ),
    "element that is no table": (
        'name = "a"\ntasks = [\n  3,\n]\nmodel.source = "org/model"\n',
        3,
        "tasks number 1 = 3: must be a table, not a whole number",
        "write it as [[tasks]]",
    ),
    "date in a free table": (
        change('"org/model"', '"random"\n[model.config]\nmodel_type = "llama"\nborn = 2024-01-01'),
        5,
        '[model] config = {model_type = "llama", born = 2024-01-01}: must be a table of texts, '
        "numbers, true or false, lists and tables",
        "omit 'config' for the default",
    ),
    "key without a value": (
        change("steps = 50", "steps ="),
        16,
        "column 8: not valid TOML: Invalid value",
        "texts need quotes, lists [ ], and a table's name [ ] on its own line",
    ),
    "key given twice": (
        change("steps = 50", "steps = 50\nsteps = 60"),
        17,
        "column 11: not valid TOML: Cannot overwrite a value",
        "the same key or table is already further up; keep one of them",
    ),
    "table given twice": (
        add("[model]\n"),
        17,
        "column 7: not valid TOML: Cannot declare ('model',) twice",
        "the same key or table is already further up; keep one of them",
    ),
}


@pytest.mark.parametrize("case", MALFORMED, ids=[name.replace(" ", "-") for name in MALFORMED])
def test_mistake_is_told_with_line_key_and_remedy(case: str) -> None:
    text, line, message, hint = MALFORMED[case]
    with pytest.raises(ProfileError) as caught:
        parse_profile(text, name="prod.toml")
    [(told, remedy), *_] = problems_in(caught.value)
    assert told == f"prod.toml:{line}: {message}"
    assert remedy == hint
    assert caught.value.exit_code == 2


VALUES = st.sampled_from(
    ["1", "-1", "true", "[]", "{}", "''", "1.5", "nan", "{a = 1}", "[[1]]", "[{}]", "'x'"]
)
TABLES = [
    *("model", "tasks", "train", "replay_stage", "rules", "actions", "cost", "probe", "zz"),
    *("anchor", "neighbors", "diagnose", "recover"),
]
KEYS = st.sampled_from(
    [
        *TABLES,
        *("name", "seed", "model.source", "model.config", "tasks.0", "tasks.new.train"),
        *("tasks.0.held_out", "tasks.0.fields.prompt", "biography.people", "train.freeze"),
        *("train.freeze.layers", "train.strategy", "replay_stage.train", "replay_stage.steps"),
        *("rules.0.arguments", "actions.freeze", "actions.freeze.op", "actions.x.key"),
        *("actions.op.op", "guard.old_accuracy", "zz.y"),
        *(
            "anchor.strength",
            "anchor.cache_size",
            "neighbors.kinds",
            "neighbors.kinds.random_words",
        ),
        *("diagnose.control", "diagnose.unrelated", "recover.examples", "recover.interpolate"),
        *("actions.recover.examples", "actions.diagnose.examples", "actions.shift-edit.alpha"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    case=st.sampled_from([text for text, *_ in MALFORMED.values()] + [GOOD] * 40),
    line=st.integers(0, 20),
    value=VALUES,
    overrides=st.lists(st.tuples(KEYS, VALUES).map("=".join), max_size=2),
)
def test_whatever_is_written_either_loads_or_is_told(
    case: str, line: int, value: str, overrides: list[str]
) -> None:
    lines = case.splitlines()
    if line < len(lines) and "=" in lines[line]:
        lines[line] = f"{lines[line].partition('=')[0]} = {value}"
    told = ""
    try:
        profile = parse_profile("\n".join(lines), overrides=overrides)
        assert parse_profile(dump_profile(profile)) == profile
    except ProfileError as error:
        told = error.message
    assert told.startswith(("profile.toml:", "--set ")) or not told


def test_good_profile_has_nothing_wrong() -> None:
    assert parse_profile(GOOD).notes == ()


def test_several_mistakes_are_told_together_in_the_order_of_the_file() -> None:
    text = change("learning_rate", "lerning_rate").replace("50", "0").replace('"old"', '"Old"')
    with pytest.raises(ProfileError) as caught:
        parse_profile(text, name="prod.toml")
    assert str(caught.value).splitlines() == [
        "prod.toml:7: [[tasks]] 'Old' name = \"Old\": must be a name of up to 64 small letters, "
        "digits, '-' and '_' that starts with a letter or digit",
        '  for example name = "my-name"',
        "prod.toml:15: [train] unknown key 'lerning_rate' (did you mean 'learning_rate'?)",
        "prod.toml:16: [train] steps = 0: must be a whole number of at least 1",
    ]


def test_a_wrong_value_hides_no_mistake_of_another_table() -> None:
    text = change("steps = 50", 'steps = "many"').replace('"new.jsonl"', '"/no/such.jsonl"')
    text += '[[rules]]\nname = "r"\nmetric = "drop"\nabove = 0.2\naction = "freez"\n'
    with pytest.raises(ProfileError) as caught:
        parse_profile(text, name="prod.toml", files=True)
    _, data, steps, action = (line for line, _ in problems_in(caught.value))
    assert "[[tasks]] 'new' data: there is no file /no/such.jsonl" in data
    assert '[train] steps = "many": must be a whole number' in steps
    assert "[[rules]] 'r' action 'freez' does not exist" in action


def test_mistake_in_train_does_not_hide_one_laid_over_it() -> None:
    text = change("1e-4", "-1").replace('"new.jsonl"', '"new.jsonl"\ntrain.clip = -1')
    with pytest.raises(ProfileError) as caught:
        parse_profile(text)
    assert len(problems_in(caught.value)) == 2


def test_a_hundred_mistakes_do_not_fill_the_screen() -> None:
    text = GOOD + "".join(f"wrong_{number} = 1\n" for number in range(100))
    with pytest.raises(ProfileError) as caught:
        parse_profile(text)
    assert len(str(caught.value).splitlines()) == 22
    assert str(caught.value).endswith("… and 80 more")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "1: the profile is empty"),
        (b" \n\t\n", "1: the profile is empty"),
        (b'name = "a"\nnote = "\xff"\n', "2: not UTF-8 text (byte 0xff)"),
        (b"a = " + b"[" * 1000, "1: TOML inline arrays/tables are nested more than"),
        (b"# only a comment\n", "1: the key 'name' is missing"),
    ],
)
def test_file_that_is_no_profile(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "prod.toml"
    path.write_bytes(content)
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    assert caught.value.message.startswith(f"{path}:{message}")
    assert caught.value.hint


def test_byte_order_mark_and_windows_line_ends_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "prod.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_profile(path).train.steps == 50
    path.write_bytes(path.read_bytes().replace(b"steps", b"stepz"))
    with pytest.raises(ProfileError, match=r"prod\.toml:16: .* unknown key 'stepz'"):
        load_profile(path)


def test_directory_is_told_as_one(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="is a directory, not a profile"):
        load_profile(tmp_path)
    (tmp_path / "profile.toml").write_text(GOOD)
    with pytest.raises(ProfileError) as caught:
        load_profile(str(tmp_path))
    assert caught.value.hint == f"did you mean {tmp_path / 'profile.toml'}?"


def test_name_that_no_file_can_have_is_told() -> None:
    with pytest.raises(ProfileError, match="can't be read: file name too long"):
        load_profile(f"./{'x' * 5000}.toml")


def test_control_characters_do_not_reach_the_terminal() -> None:
    with pytest.raises(ProfileError) as caught:
        parse_profile(change("steps", '"st\\u001b[2J\\neps"'))
    assert caught.value.message == "profile.toml:16: [train] unknown key 'st\\x1b[2J\\neps'"


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "prod.toml").write_text(GOOD)
    with pytest.raises(ProfileError) as caught:
        load_profile(tmp_path / "prdo.toml")
    assert "there is no such file" in caught.value.message
    assert caught.value.hint == f"did you mean {tmp_path / 'prod.toml'}?"


def test_missing_data_files_are_told_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "prod.toml"
    path.write_text(GOOD)
    (tmp_path / "old.jsonl").write_text("{}")
    with pytest.raises(ProfileError) as caught:
        load_profile(path, files=True)
    assert caught.value.message == (
        f"{path}:12: [[tasks]] 'new' data: there is no file {tmp_path / 'new.jsonl'}"
    )
