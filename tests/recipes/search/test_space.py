import json
import subprocess
import sys

import keras_tuner
import pytest

from recipes.parts.search.candidates import Architecture, FineTuning
from recipes.parts.search.exploring import explore, sampled
from recipes.parts.search.fixing import fix, keep_only
from recipes.parts.search.hyperparameters import collect, count_combinations, from_json, to_json
from recipes.parts.search.space import Space, load_space, space
from recipes.parts.search.space_changes import can_extend, differences
from recipes.parts.stages import Stage
from zoo import MODELS
from zoo.errors import InputError

BASE = MODELS["test_vgg"]
HEADER = """
from recipes.parts.search.candidates import Architecture
from recipes.parts.search.space import space
"""


def nested(hp, base):
    optimizer = hp.Choice("optimizer", ["sgd", "adamw"])
    with hp.conditional_scope("optimizer", ["adamw"]):
        clip = hp.Boolean("clip")
        with hp.conditional_scope("clip", [True]):
            hp.Float("norm", 0.5, 2.0, step=0.5, default=1)
            if clip:  # found all the same
                hp.Int("clip_steps", 1, 3)
    rate = 0.1 + 0.01 * hp.Int("tenths", 0, 9)
    if clip:
        rate = rate / hp.get("norm")
    return Architecture(spec=base, optimizer=optimizer, learning_rate=rate)


NESTED = Space("nested", "train", nested)


def names(hyperparameters):
    return [each.name for each in hyperparameters.space]


def test_exploring_enters_every_scope():
    found = explore(NESTED, BASE)
    assert sorted(names(found)) == ["clip", "clip_steps", "norm", "optimizer", "tenths"]
    assert names(found).index("optimizer") < names(found).index("clip") < names(found).index("norm")
    assert found.values == {"optimizer": "sgd", "tenths": 0}
    # sgd; adamw without clipping; adamw with 4 norms and 3 numbers of steps
    assert count_combinations(found) == 10 * (1 + 1 + 4 * 3)


def test_values_become_a_candidate():
    found = explore(NESTED, BASE)
    assert sampled(NESTED, BASE, {}) == Architecture(spec=BASE, learning_rate=0.1)
    values = {"optimizer": "adamw", "clip": True, "norm": 2.0, "clip_steps": 1, "tenths": 3, "tuner/epochs": 9}
    assert sampled(NESTED, BASE, values, found).learning_rate == pytest.approx(0.13 / 2)
    with pytest.raises(InputError, match=r"'tenth'\. Did you mean tenths\?"):
        sampled(NESTED, BASE, {"tenth": 3}, found)


def test_a_name_may_stand_in_scopes_that_exclude_each_other():
    def sample(hp, base):
        kind = hp.Choice("kind", ["a", "b"])
        rates = []
        for name, most in (("a", 1.0), ("b", 2.0)):
            with hp.conditional_scope("kind", [name]):
                rates.append(hp.Float("rate", 0.5, most))
        return Architecture(spec=base, learning_rate=rates["ab".index(kind)])

    two = Space("two", "train", sample)
    assert names(explore(two, BASE)) == ["kind", "rate", "rate"]
    assert sampled(two, BASE, {"kind": "b", "rate": 1.5}).learning_rate == 1.5
    fixed = fix(explore(two, BASE), {"rate": "0.75"})
    assert [each.values for each in fixed.space[1:]] == [(0.75,)] * 2
    with pytest.raises(InputError, match=r"where kind is a can be 0\.5 to 1\.0"):
        fix(explore(two, BASE), {"rate": "1.5"})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("hp.Choice('a', [1, 2]); hp.Choice('a', [1, 3])", "'a' is asked for twice, as one of 1, 2 and as one of 1, 3"),
        (
            "hp.Float('a', 0, 1, default=2)",
            "default of the hyperparameter 'a' must be 0.0 to 1.0. Received: default=2.0",
        ),
        ("hp.Int('a', 0, 10, step=5, default=3)", "must be 0 to 10, in steps of 5"),
        ("hp.Choice('a', [1.0, float('inf')])", "not finite"),
        ("hp.Choice('a', [])", "line 8: ValueError: `values` must be provided"),
        ("1 / 0", "line 8: ZeroDivisionError: division by zero"),
        ("return base", "must return a recipes.parts.search.candidates.Architecture, .* Received: a ModelSpec"),
        ("return Architecture(spec=base, mixup=-1)", "line 8: Architecture: `mixup` must be .* Received: mixup=-1"),
        (
            "hp.Choice('a', [1, 2])\n    with hp.conditional_scope('a', [3]): hp.Boolean('b')",
            r"conditional scope is never entered: a cannot be 3, but one of 1, 2",
        ),
        (
            "hp.Choice('a', [1, 2]); hp.Int('b', 1, 2)\n    with hp.conditional_scope('a', [2]): hp.Int('b', 1, 3)",
            "'b' where a is 2 is also asked for, which may be at once",
        ),
    ],
)
def test_mistakes_in_a_users_space_are_one_line(tmp_path, body, message):
    file = tmp_path / "mine.py"
    file.write_text(
        f"{HEADER}\n\n@space('mine')\ndef mine(hp, base):\n    {body}\n    return Architecture(spec=base)\n"
    )
    with pytest.raises(InputError, match=message) as error:
        explore(load_space(str(file)), BASE)
    assert "\n" not in str(error.value)


def test_what_exploring_cannot_find_is_told(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        f"{HEADER}\n@space('mine')\ndef mine(hp, base):\n    if hp.Int('a', 1, 9) == 5:\n        hp.Boolean('b')\n"
        "    return Architecture(spec=base)\n"
    )
    mine = load_space(str(file))
    assert names(explore(mine, BASE)) == ["a"]
    with pytest.raises(InputError, match=r"mine\.py, line 8: The hyperparameter 'b' .*conditional_scope"):
        sampled(mine, BASE, {"a": 5})


def test_spaces_are_found_by_name_and_file(tmp_path):
    assert load_space("architecture").recipe == "train"
    assert load_space("finetune").recipe == "finetune"
    with pytest.raises(InputError, match=r"'architektur'\. Did you mean architecture\?"):
        load_space("architektur")
    with pytest.raises(InputError, match=r"There is no file 'gone\.py'"):
        load_space("gone.py")
    file = tmp_path / "mine.py"
    one = "@space('{}')\ndef sample(hp, base):\n    return Architecture(spec=base)\n"
    file.write_text(HEADER)
    with pytest.raises(InputError, match="holds no space"):
        load_space(str(file))
    file.write_text(HEADER + one.format("first"))
    assert load_space(str(file)).name == load_space(f"{file}:first").name == "first"
    file.write_text(HEADER + one.format("first") + one.format("second"))
    assert load_space(f"{file}:second").name == "second"
    with pytest.raises(InputError, match=r"several spaces: first, second\. Say which, as in .*mine\.py:first"):
        load_space(str(file))
    with pytest.raises(InputError, match="Did you mean second"):
        load_space(f"{file}:secnd")
    file.write_text(HEADER + 2 * one.format("first"))
    with pytest.raises(InputError, match="two spaces 'first'"):
        load_space(str(file))
    file.write_text(HEADER + "\nspace('a', recipe='tarin')(print)\n")
    with pytest.raises(InputError, match=r"at line 5: .*Did you mean train"):
        load_space(str(file))


def test_a_decorated_function_is_still_one():
    assert space("nested")(nested) is nested


def many():
    hp = keras_tuner.HyperParameters()
    hp.Choice("pool_stage1", ["max", "avg"])
    hp.Choice("pool_stage2", ["max", "avg"])
    hp.Choice("head_pool", ["max", "avg"], default="avg")
    hp.Choice("width", [0.5, 1.0])
    hp.Float("rate", 0.1, 0.5, step=0.1)
    hp.Int("depth", 2, 8, step=2)
    hp.Boolean("blur")
    hp.Float("decay", 1e-4, 1e-2, sampling="log")
    return hp


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("head_pool", "max", "max"),
        ("width", "1", 1.0),
        ("width", 0.5, 0.5),
        ("rate", "0.3", 0.1 + 2 * 0.1),
        ("depth", "4", 4),
        ("depth", 6.0, 6),
        ("blur", "True", True),
        ("blur", "no", False),
        ("decay", "1e-3", 1e-3),
    ],
)
def test_a_fixed_hyperparameter_has_one_value(name, text, value):
    fixed = fix(many(), {name: text})
    assert names(fixed) == names(many())
    assert fixed.values[name] == value
    assert type(fixed.values[name]) is type(value)
    assert count_combinations(fix(fixed, {"decay": 1e-3})) < count_combinations(fix(many(), {"decay": 2e-3})) or (
        name == "decay"
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("widht", "1", "Did you mean width"),
        ("width", "0.7", "can be one of 0.5, 1.0. Received: 0.7"),
        ("width", "wide", "can be one of"),
        ("depth", "3", "can be 2 to 8, in steps of 2. Received: 3"),
        ("depth", "4.5", "can be 2 to 8"),
        ("blur", "2", "can be true or false"),
        ("decay", "nan", "can be 0.0001 to 0.01, log"),
        ("decay", "1", "can be 0.0001"),
        ("head_pool", "lip", "can be one of max, avg"),
    ],
)
def test_what_cannot_be_fixed(name, text, message):
    with pytest.raises(InputError, match=message):
        fix(many(), {name: text})


def test_a_search_can_be_kept_to_some_hyperparameters():
    def searched(*patterns):
        return [each.name for each in keep_only(many(), patterns).space if len(list(each.values)) > 1]

    assert searched("pool", "depth") == ["pool_stage1", "pool_stage2", "depth"]
    assert searched("pool_stage2", "*pool") == ["pool_stage2", "head_pool"]
    assert keep_only(many(), ["depth"]).values["head_pool"] == "avg"
    with pytest.raises(InputError, match="Did you mean width"):
        keep_only(many(), ["widht"])


def one(kind, *args, **kwargs):
    hp = keras_tuner.HyperParameters()
    getattr(hp, kind)("x", *args, **kwargs)
    return hp


@pytest.mark.parametrize(
    ("old", "new", "extends"),
    [
        (one("Choice", ["a", "b"]), one("Choice", ["c", "b", "a"]), True),
        (one("Choice", ["a", "b"]), one("Choice", ["a", "c"]), False),
        (one("Choice", [1, 2]), one("Choice", [1.0, 2.0]), False),
        (one("Choice", [1, 2]), one("Int", 1, 3), True),
        (one("Int", 2, 8, step=2), one("Int", 0, 8), True),
        (one("Int", 2, 8, step=2), one("Int", 1, 9, step=2), False),
        (one("Int", 1, 10**9), one("Int", 1, 10**9 + 1), True),
        (one("Int", 1, 10**9), one("Int", 1, 16, sampling="log", step=2), False),
        (one("Float", 0.1, 1.0), one("Float", 0.1, 2.0, default=0.3), True),
        (one("Float", 0.1, 1.0), one("Float", 0.1, 1.0, sampling="log"), True),
        (one("Float", 0.1, 1.0), one("Float", 0.2, 1.0), False),
        (one("Float", 0.1, 1.0), one("Float", 0.1, 1.0, step=0.1), False),
        (one("Float", 0.1, 1.0, step=0.1), one("Float", 0.1, 1.0), True),
        (one("Fixed", "a"), one("Choice", ["b", "a"]), True),
        (one("Choice", ["b", "a"]), one("Fixed", "a"), False),
        (one("Boolean"), collect([]), False),
        (collect([]), one("Boolean"), True),
    ],
)
def test_a_space_can_grow_but_not_shrink(old, new, extends):
    assert can_extend(old, new) is extends
    assert can_extend(old, old)
    assert len(differences(old, new)) == 1
    assert not differences(old, from_json(json.loads(json.dumps(to_json(old)))))


def test_differences_are_told():
    old, new = explore(NESTED, BASE), many()
    new.merge(old.space[:1])
    new.Choice("optimizer2", ["a"], parent_name="optimizer", parent_values=["sgd"])
    lines = differences(old, new)
    assert "clip where optimizer is adamw: was true or false (default False), is gone" in lines
    assert "depth: is new, 2 to 8, in steps of 2 (default 2)" in lines
    assert "optimizer2 where optimizer is sgd: is new, one of a (default a)" in lines
    assert not any(line.startswith("optimizer:") for line in lines)
    changed = differences(one("Int", 1, 3), one("Int", 1, 4, default=2))
    assert changed == ["x: was 1 to 3 (default 1), is 1 to 4 (default 2)"]


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (Architecture, {"spec": "vgg"}, "`spec` must be a ModelSpec"),
        (Architecture, {"optimizer": "adam"}, "Did you mean adamw"),
        (Architecture, {"learning_rate": 0.0}, "`learning_rate` must be a number above 0, or None"),
        (Architecture, {"learning_rate": True}, "`learning_rate`"),
        (Architecture, {"weight_decay": float("nan")}, "`weight_decay`"),
        (Architecture, {"label_smoothing": 1.0}, "`label_smoothing`"),
        (Architecture, {"random_erasing": 1.5}, "`random_erasing`"),
        (Architecture, {"augmentation": "much"}, "augmentation 'much'"),
        (FineTuning, {"cut": ""}, "`cut` must be"),
        (FineTuning, {"head_pool": "blur"}, "head pool 'blur'"),
        (FineTuning, {"head_pool": "agv"}, "Did you mean avg"),
        (FineTuning, {"dropout": 1.0}, "`dropout`"),
        (FineTuning, {"label_smoothing": -0.1}, "`label_smoothing`"),
        (FineTuning, {"stages": ()}, "`stages` must hold Stages, at least one"),
    ],
)
def test_nonsense_is_no_candidate(kind, arguments, message):
    needed = {"spec": BASE} if kind is Architecture else {"stages": (Stage(name="head"),)}
    with pytest.raises(InputError, match=message):
        kind(**{**needed, **arguments})


def test_spaces_are_imported_without_tensorflow():
    modules = ("candidates", "engine", "space", "architecture_space", "finetune_space")
    code = "import sys\n" + "".join(f"import recipes.parts.search.{each}\n" for each in modules)
    code += "from recipes.parts.search.space import load_space\nload_space('finetune')\nload_space('architecture')\n"
    code += "assert not {'tensorflow', 'keras', 'keras_tuner', 'numpy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
