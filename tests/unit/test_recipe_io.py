"""Recipes as files: what is merged, what is refused, and what the message tells to write."""

import contextlib
import json

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptm_dist.errors import ConfigError, DataUnavailableError
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_errors import FOREIGN_NAMES, known_keys
from ptm_dist.recipe_io import (
    dump_recipe,
    flatten,
    load_recipe,
    read_recipe,
    recipe_diff,
    recipe_from_json,
    recipe_schema,
    recipe_to_json,
    save_recipe,
)
from tests.tiny import PLAIN, tiny_recipe

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)


@pytest.fixture
def write(tmp_path):
    def write(text, name="recipe.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        return path

    return write


@pytest.fixture
def base(write):
    return write(yaml.safe_dump(PLAIN, sort_keys=False), "base.yaml")


def problems(files, *overrides):
    with pytest.raises(ConfigError) as error:
        load_recipe(files, overrides)
    assert error.value.exit_code == 20
    return str(error.value).splitlines()


class TestMerging:
    def test_a_plain_file_is_the_recipe(self, base):
        assert load_recipe([base]) == load_recipe([str(base)]) == tiny_recipe()

    def test_files_are_merged_left_to_right(self, base, write):
        one = write("seed: 1\nbatch: {rows: 32}\n", "one.yaml")
        two = write("seed: 2\nmodel: {dropout: 0}\n", "two.yaml")
        recipe = load_recipe([base, one, two])
        assert recipe == tiny_recipe(seed=2, batch={"rows": 32}, model={"dropout": 0.0})
        assert load_recipe([base, two, one]).seed == 1

    def test_a_list_replaces(self, base, write):
        over = write("stages: [{name: other, steps: {mlm: 7}}]")
        assert load_recipe([base, over]).stages == tiny_recipe(stages=[{"name": "other", "steps": {"mlm": 7}}]).stages

    def test_another_kind_replaces_the_whole_mapping(self, base, write):
        over = write("optimizer: {schedule: {kind: constant}}")
        assert flatten(load_recipe([base, over]))["optimizer.schedule.warmup_steps"] == 0
        same = write("optimizer: {schedule: {kind: linear}}")
        assert flatten(load_recipe([base, same]))["optimizer.schedule.warmup_steps"] == 5

    def test_extends_is_relative_to_its_file_and_comes_first(self, base, write):
        write("seed: 3\npaper: middle\n", "parts/seed.yaml")
        path = write("extends: [../base.yaml, seed.yaml]\nseed: 4\n", "parts/top.yaml")
        assert load_recipe([path]) == tiny_recipe(seed=4, paper="middle")

    def test_extends_may_be_one_name_and_goes_on(self, base, write):
        write("extends: base.yaml\npaper: b\n", "b.yaml")
        write("extends: b.yaml\nseed: 5\n", "c.yaml")
        assert load_recipe([base.parent / "c.yaml"]) == tiny_recipe(seed=5, paper="b")

    def test_two_may_extend_the_same(self, base, write):
        write("extends: base.yaml\nseed: 8\n", "b.yaml")
        write("extends: base.yaml\npaper: c\n", "c.yaml")
        assert load_recipe([write("extends: [b.yaml, c.yaml]", "d.yaml")]).paper == "c"

    @pytest.mark.parametrize("names", [("a.yaml", "b.yaml"), ("a.yaml", "a.yaml")])
    def test_circles_are_refused(self, write, names):
        first, second = names
        write(f"extends: {second}", first)
        write(f"extends: {first}", second)
        (line,) = problems([write(f"extends: {first}", "top.yaml")])
        assert line.startswith("extends: ")
        assert "is a circle; remove one of them" in line

    def test_extends_names_files(self, write):
        (line,) = problems([write("\nextends: {a: 1}")])
        assert line.startswith("extends: write the name of a file, or a list of names (")
        assert line.endswith("recipe.yaml:2)")


class TestOverrides:
    @pytest.mark.parametrize("path", ["stages.0.steps.mlm", "stages[0].steps.mlm", "stages[-1].steps.mlm", "stages.-1.steps.mlm"])
    def test_lists_are_reached_by_number(self, base, path):
        assert load_recipe([base], [f"{path}=7"]).total_steps == 7

    @pytest.mark.parametrize(
        ("override", "key", "value"),
        [
            ("optimizer.learning_rate=1e-4", "optimizer.learning_rate", 1e-4),
            ("optimizer.learning_rate=1", "optimizer.learning_rate", 1.0),
            ("optimizer.betas=[0.9, 0.98]", "optimizer.betas", [0.9, 0.98]),
            ("optimizer.decay_norms_and_biases=true", "optimizer.decay_norms_and_biases", True),
            ("name=20261122", "name", "20261122"),
            ("name=1e5", "name", "1e5"),
            ("name=yes", "name", "yes"),
            ("paper=no", "paper", "no"),
            ("paper=a=b", "paper", "a=b"),
            ("paper='1.10'", "paper", "1.10"),
            ("paper=2019-07-26", "paper", "2019-07-26"),
            ("paper=12:30", "paper", "12:30"),
            ("paper=0x1f", "paper", "0x1f"),
            ("seed=01", "seed", 1),
            ("init=runs/x@400", "init", "runs/x@400"),
            ("init=", "init", None),
            ("sources.own.paths=[a/*.txt]", "sources.own.paths", ["a/*.txt"]),
            ("batch={rows: 4}", "batch.micro", 4),
            ("checkpoint.keep_last=5", "checkpoint.keep_last", 5),
        ],
    )
    def test_values_are_yaml(self, base, override, key, value):
        found = flatten(load_recipe([base], [override]))[key]
        assert found == value
        assert type(found) is type(value)

    def test_the_last_one_wins(self, base):
        assert load_recipe([base], ["seed=3", "seed=4"]).seed == 4

    def test_another_kind_drops_no_setting_given_beside_it(self, base):
        for words in (["kind=constant", "warmup_steps=9"], ["warmup_steps=9", "kind=constant"]):
            found = load_recipe([base], [f"optimizer.schedule.{word}" for word in words]).optimizer.schedule
            assert (found.kind, found.warmup_steps) == ("constant", 9)

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("stages.1.steps.mlm=3", "stages.1: stages is a list; write a number from 0 to 0 after it (command line)"),
            ("stages.steps.mlm=3", "stages.steps: stages is a list; write a number from 0 to 0 after it (command line)"),
            ("stages.-2.name=x", "stages.-2: stages is a list; write a number from 0 to 0 after it (command line)"),
            ("seed", "seed: write dotted.key=value, for example optimizer.learning_rate=1e-4 (command line)"),
            ("=3", "=3: write dotted.key=value, for example optimizer.learning_rate=1e-4 (command line)"),
            ("batch..rows=3", "batch..rows=3: write dotted.key=value, for example optimizer.learning_rate=1e-4 (command line)"),
            ("init=a: b: c", "command line: a second ': ' in a line; quote text that contains one."),
            ("init=@home", "command line: text that begins with @, ` or % must be quoted."),
            ("optimzer.eps=1", "optimzer: unknown key; did you mean optimizer? (command line)"),
            ("seed.x=3", "seed: this is a mapping; write a whole number (command line)"),
        ],
    )
    def test_what_cannot_be_set(self, base, override, message):
        assert problems([base], override) == [message]


MESSAGES = [
    ("name: 20261122", 'name: 20261122 is a number; write name: "20261122" (FILE:1)'),
    ("name: 1.10", 'name: 1.10 is a decimal number; write name: "1.10" (FILE:1)'),
    ("name: true", 'name: true is a truth value; write name: "true" (FILE:1)'),
    ("name:", "name: null is no value; write text (FILE:1)"),
    ("paper: [a]", "paper: this is a list; write text (FILE:1)"),
    ("\nseed: yes", 'seed: "yes" is text; write a whole number (FILE:2)'),
    ("seed: 1.5", "seed: 1.5 is a decimal number; write a whole number (FILE:1)"),
    ("seed: -1", "seed: -1 should be greater than or equal to 0 (FILE:1)"),
    ("stages: [{name: a, steps: {mlm: '10'}}]", 'stages.0.steps.mlm: "10" is text; write 10 (FILE:1)'),
    ("stages: [{name: a, steps: {mlm: 1e4}}]", "stages.0.steps.mlm: 1e4 is a decimal number; write 10000 (FILE:1)"),
    ("stages: [{name: a, steps: {mlm: 1_000}}]", 'stages.0.steps.mlm: "1_000" is text; write 1000 (FILE:1)'),
    ("stages: [{name: a, steps: {mlm: 0}}]", "stages.0.steps.mlm: 0 should be greater than 0 (FILE:1)"),
    ("stages: []", "stages: give these or a schedule (FILE:1)"),
    ("stages: {name: a}", "stages: this is a mapping; write a list (FILE:1)"),
    ("optimizer:\n  learning_rate: '1e-4'", 'optimizer.learning_rate: "1e-4" is text; write 0.0001 (FILE:2)'),
    ("optimizer:\n  learning_rate: fast", 'optimizer.learning_rate: "fast" is text; write a number (FILE:2)'),
    ("optimizer: {decay_norms_and_biases: on}", 'optimizer.decay_norms_and_biases: "on" is text; write true (FILE:1)'),
    ("optimizer: {decay_norms_and_biases: 0}", "optimizer.decay_norms_and_biases: 0 is a number; write false (FILE:1)"),
    ("optimizer: {betas: [0.9]}", "optimizer.betas.1: missing; add it (FILE:1)"),
    ("optimizer: {betas: 0.9}", "optimizer.betas: 0.9 is a decimal number; write betas: [0.9] (FILE:1)"),
    ("optimizer: {learnin_rate: 1}", "optimizer.learnin_rate: unknown key; did you mean learning_rate? (FILE:1)"),
    ("optimizer: {kind: adam}", "optimizer.kind: unknown kind 'adam'; did you mean 'adamw'? (FILE:1)"),
    ("optimizer: {schedule: {kind: liner}}", "optimizer.schedule.kind: unknown kind 'liner'; did you mean 'linear'? (FILE:1)"),
    ("optimizer: {schedule: {warmup: 3}}", "optimizer.schedule.warmup: unknown key; did you mean warmup_steps? (FILE:1)"),
    ("sources: {own: {paths: text/}}", 'sources.own.paths: "text/" is text; write paths: ["text/"] (FILE:1)'),
    ("engine: {zero_stage: '1'}", 'engine.zero_stage: "1" is none of the choices; write 0, 1, 2 or 3 (FILE:1)'),
    ("engine: {precision: fp8}", "engine.precision: \"fp8\" is none of the choices; write 'auto', 'fp32', 'bf16' or 'fp16' (FILE:1)"),
    ("engine: 3", "engine: 3 is a number; write a mapping (FILE:1)"),
    ("tasks:\n  mlm:\n    formt: 3", "tasks.mlm.formt: unknown key; did you mean format? (FILE:3)"),
    ("stages: [{steps: {mlm: 1}}]", "stages.0.name: missing; add it (FILE:1)"),
    ("zebra: 1", "zebra: unknown key; one of: name, paper, seed, init, sources, corpus"),
    ("lr: 1", "lr: unknown key; here: optimizer.learning_rate (FILE:1)"),
    ("learning_rate: 1", "learning_rate: unknown key; here: optimizer.learning_rate (FILE:1)"),
    ("max_steps: 1", "max_steps: unknown key; here: stages.0.steps (FILE:1)"),
    ("per_device_train_batch_size: 8", "per_device_train_batch_size: unknown key; here: batch.micro (FILE:1)"),
    ("wwm: true", "wwm: unknown key; here: tasks.NAME.objectives.0.unit (FILE:1)"),
    ("batch: {tokens: 5}", "batch: give either rows or tokens (FILE:1)"),
    ("tasks: {mlm: {format: {length: 33}}}", "tasks.mlm.format.length 33 exceeds the model's positions 32 (FILE:1)"),
    ("stages: [{name: a, steps: {nsp: 3}}]", "stages.0.steps: 'nsp' is not defined; there are: mlm (FILE:1)"),
]


class TestMessages:
    @pytest.mark.parametrize(("text", "message"), MESSAGES)
    def test_each_says_what_where_and_what_to_write(self, base, write, text, message):
        path = write(text)
        (line,) = problems([base, path])
        assert line.startswith(message.replace("FILE", str(path)))
        assert line.startswith(text.partition(":")[0].strip())

    def test_all_problems_are_listed_each_with_its_file(self, base, write):
        path = write("seed: one\nbatch: {rws: 3}\noptimizer: {kind: adam}\n")
        assert problems([base, path], "lr=3", "model.layers=0") == [
            f'seed: "one" is text; write a whole number ({path}:1)',
            "model.layers: 0 should be greater than 0 (command line)",
            f"batch.rws: unknown key; did you mean rows? ({path}:2)",
            f"optimizer.kind: unknown kind 'adam'; did you mean 'adamw'? ({path}:3)",
            "lr: unknown key; here: optimizer.learning_rate (command line)",
        ]

    def test_problems_inside_of_a_plug_in_are_all_listed(self, base):
        lines = problems([base], "model.layers=0", "model.hidden=x", "model.hiden=3")
        assert lines == [
            "model.layers: 0 should be greater than 0 (command line)",
            'model.hidden: "x" is text; write a whole number (command line)',
            "model.hiden: unknown key; did you mean hidden? (command line)",
        ]

    def test_what_is_missing_is_named(self, write):
        path = write("name: x\noptimizer: {kind: adamw}")
        lines = problems([path])
        assert f"optimizer.learning_rate: missing; add it ({path}:2)" in lines
        assert f"sources: missing; add it ({path}:1)" in lines
        assert "name: missing; add it" in problems([])

    def test_a_long_value_is_cut(self, base, write):
        (line,) = problems([base, write(f"seed: {'x' * 5000}")])
        assert len(line) < 300

    def test_their_names_lead_to_keys_that_exist(self):
        known = {".".join(keys) for keys in known_keys()}
        assert set(FOREIGN_NAMES.values()) <= known
        ours = {keys[-1] for keys in known_keys()}
        assert not ours & set(FOREIGN_NAMES)


UNSAFE = [
    ("seed: 1\nseed: 2", "FILE:2: seed is given twice; remove one."),
    ("batch:\n  rows: 1\n  micro: 2\n  rows: 3", "FILE:4: batch.rows is given twice; remove one."),
    ("a: &x 1\nb: *x", "FILE:1: anchors and aliases"),
    ("paths: *.txt", "FILE:1: anchors and aliases (& and *) are not allowed; quote text that begins with & or *."),
    ("a: !!python/object/apply:os.system [id]", "FILE:1: the tag tag:yaml.org,2002:python/object/apply:os.system is not allowed"),
    ("a: !!str 3", "FILE:1: the tag tag:yaml.org,2002:str is not allowed; quote text that begins with '!'."),
    ("a: !x 3", "FILE:1: the tag !x is not allowed"),
    ("\nseed: .nan", "FILE:2: .nan is not a finite number."),
    ("seed: -.inf", "FILE:1: -.inf is not a finite number."),
    ("seed: 1e999", "FILE:1: 1e999 is not a finite number."),
    ("batch:\n\trows: 1", "FILE:2: a tab stands where YAML wants spaces."),
    ("? [a, b]\n: 1", "FILE:1: a key must be text."),
    ('paper: "\\ud800"', "FILE:1: the text holds a character that is none"),
    ('paper: "a\\0b"', "FILE:1: the text holds a character that is none"),
    ("seed: 1\n---\nseed: 2", "FILE:2: expected a single document in the stream, but found another document."),
    ("a: [1, 2", "FILE:1: while parsing a flow sequence, expected ',' or ']'"),
    ("- a\n- b", "FILE: this is a list, but a recipe is a mapping; write key: value."),
    ("just words", "FILE: this is text, but a recipe is a mapping; write key: value."),
    ("a: " + "[" * 5000, "FILE:1: nested deeper than 40 levels."),
    ("a: " + "{a: " * 5000, "FILE:1: nested deeper than 40 levels."),
    (b"name: \xff\xfe", "FILE: byte 6 is not UTF-8; save the file as UTF-8 text."),
    (b"name: a\x07", "FILE: "),
    ('a: "\\UFFFFFFFF"', "FILE: "),
    ("#" * 1_000_001, "FILE: larger than 1,000,000 bytes"),
]


class TestSafety:
    @pytest.mark.parametrize(("text", "message"), UNSAFE, ids=range(len(UNSAFE)))
    def test_refused_with_file_and_line(self, base, write, text, message):
        path = write(text)
        (line,) = problems([base, path])
        assert line.startswith(message.replace("FILE", str(path)))

    def test_an_empty_file_and_a_byte_order_mark_are_nothing_special(self, base, write):
        assert load_recipe([base, write("", "empty.yaml"), write("# only words\n", "c.yaml")]) == tiny_recipe()
        assert load_recipe([base, write("\ufeffseed: 3\r\n")]).seed == 3

    def test_a_file_that_is_not_there(self, base):
        (line,) = problems([base.parent / "bse.yaml"])
        assert line.endswith(f"cannot be read (No such file or directory); did you mean {base}?")
        (line,) = problems([base.parent])
        assert "Is a directory" in line
        (line,) = problems(["nowhere/x.yaml"])
        assert line.endswith("check the name.")

    def test_unknown_tags_never_run(self, write, tmp_path):
        problems([write(f"a: !!python/object/apply:os.mkdir ['{tmp_path}/made']")])
        assert not (tmp_path / "made").exists()

    @given(st.text("ab:-[]{}#&*!|>'\"%@`\\ \n\t,?~0.eEx", max_size=40))
    @in_one_folder
    def test_any_text_is_a_recipe_or_a_configuration_error(self, base, write, text):
        for attempt in (lambda: load_recipe([base, write(text)]), lambda: load_recipe([base], [f"paper={text}"])):
            with contextlib.suppress(ConfigError):
                assert isinstance(attempt(), Recipe)

    plain = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kind", "rows", "paths", "x"]), inner, max_size=3),
        max_leaves=6,
    )

    @given(st.sampled_from(sorted(flatten(tiny_recipe()))), st.integers(0, 4), plain)
    @in_one_folder
    def test_any_value_anywhere_is_a_recipe_or_a_configuration_error(self, base, key, cut, value):
        path = ".".join(key.split(".")[: max(1, key.count(".") + 1 - cut)])
        with contextlib.suppress(ConfigError):
            assert isinstance(load_recipe([base], [f"{path}={json.dumps(value)}"]), Recipe)


ODD = ["1e-4", "yes", "null", "0x10", "1_0", "2019-01-01", "12:30", "*", "&a", "!x", "", " ", "<<", "=", "~", "\x85", "a\u2028b", "\ufeff"]
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


class TestTheWayBack:
    @given(
        paper=texts | st.sampled_from(ODD),
        paths=st.lists(texts, min_size=1, max_size=3),
        rate=st.floats(1e-300, 1e300),
        seed=st.integers(0, 2**64),
    )
    @in_one_folder
    def test_a_dumped_recipe_is_the_same_recipe(self, write, paper, paths, rate, seed):
        own = {"own": {"kind": "text", "paths": paths}}
        recipe = tiny_recipe(paper=paper, seed=seed, sources=own, optimizer={"learning_rate": rate})
        again = load_recipe([write(dump_recipe(recipe))])
        assert again == recipe
        assert again.digest == recipe.digest

    def test_a_recipe_of_shared_parts_needs_no_alias(self, write):
        shared = {"format": {"kind": "full_sentences", "length": 32}, "objectives": [{"kind": "masked_lm"}]}
        recipe = tiny_recipe(tasks={"mlm": shared, "other": shared})
        assert load_recipe([write(dump_recipe(recipe))]) == recipe

    def test_saved_recipes_are_read(self, tmp_path):
        save_recipe(tiny_recipe(), tmp_path / "recipe.json")
        assert read_recipe(tmp_path / "recipe.json") == tiny_recipe()
        assert recipe_from_json(json.loads(json.dumps(recipe_to_json(tiny_recipe())))) == tiny_recipe()

    def test_a_saved_recipe_that_is_none_is_named(self, tmp_path):
        path = tmp_path / "recipe.json"
        with pytest.raises(DataUnavailableError, match=str(path)):
            read_recipe(path)
        path.write_text(json.dumps(PLAIN | {"hiden": 3}))
        with pytest.raises(ConfigError, match=rf"^hiden: unknown key.*\({path}\)$"):
            read_recipe(path)
        path.write_text('{"seed": NaN}')
        with pytest.raises(ConfigError, match=rf"a number is not finite \({path}\)"):
            read_recipe(path)
        path.write_text("[]")
        with pytest.raises(ConfigError, match=rf"write a mapping \({path}\)"):
            read_recipe(path)


class TestDifferences:
    def test_flatten_reaches_every_value(self):
        flat = flatten(tiny_recipe())
        assert flat["stages.0.steps.mlm"] == 40
        assert flat["tasks.mlm.objectives.0.rate"] == 0.15
        assert flat["optimizer.betas"] == [0.9, 0.999]
        assert flat["tasks.mlm.sources"] == []
        assert not any(isinstance(value, dict) for value in flat.values() if value)

    def test_equal_recipes_do_not_differ(self):
        assert recipe_diff(tiny_recipe(), tiny_recipe()) == []

    def test_what_differs_is_named_with_both_values(self):
        other = tiny_recipe(seed=3, model={"layers": 4}, stages=[*PLAIN["stages"], {"name": "b", "steps": {"mlm": 1}}])
        assert recipe_diff(tiny_recipe(), other) == [
            ("seed", 7, 3),
            ("model.layers", 2, 4),
            ("stages.1.name", None, "b"),
            ("stages.1.steps.mlm", None, 1),
        ]
        assert recipe_diff(other, tiny_recipe())[-1] == ("stages.1.steps.mlm", 1, None)


class TestSchema:
    def test_it_is_plain_data_with_every_section(self):
        schema = json.loads(json.dumps(recipe_schema()))
        assert set(Recipe.model_fields) <= set(schema["properties"])
        assert "extends" in schema["properties"]
        assert schema["additionalProperties"] is False
        assert "required" not in schema

    def test_plug_ins_are_spelled_out(self):
        assert {"AdamW", "Linear", "Constant", "Roberta", "MaskedLM"} <= set(recipe_schema()["$defs"])


def test_own_text_takes_the_place_of_every_source(tmp_path):
    recipe = tiny_recipe(tasks={"mlm": {"sources": ["own"]}})
    (tmp_path / "r.yaml").write_text(dump_recipe(recipe))
    found = load_recipe([tmp_path / "r.yaml"], ["sources.text.documents=blank_lines"], ["a.txt", "b/"])
    assert found.sources_of("mlm") == ["text"]
    assert found.sources["text"].paths == ("a.txt", "b/")
    assert found.sources["text"].documents == "blank_lines"
    assert found.digest != recipe.digest
