from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.commands import demo
from tasks.cohort_config import CohortConfig
from tasks.config import PreprocessConfig, RunConfig, load_config, parse_config, validated
from tasks.errors import InputError
from tasks.train_config import TrainConfig

REPOSITORY = Path(__file__).resolve().parents[3]
LEAST: dict[str, Any] = {"cohort": {"slides": "slides"}}


def refused(data: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        parse_config(data, folder=Path("/data"), source="run.toml")
    assert caught.value.subject == "run.toml"
    assert caught.value.remedy
    return caught.value.cause


def test_a_cohort_is_all_that_must_be_named() -> None:
    config = parse_config(LEAST, folder=Path("/data"), source="run.toml")
    assert config.cohort.slides == Path("/data/slides")
    assert config.preprocess == PreprocessConfig()
    assert "no key 'cohort', which is required" in refused({})
    assert "no key 'cohort.slides', which is required" in refused({"cohort": {}})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"sed": 1}, "unknown key 'sed' (did you mean 'seed'?)"),
        ({"preproces": {}}, "unknown key 'preproces' (did you mean 'preprocess'?)"),
        ({"train": {"epoch": 3}}, "unknown key 'train.epoch' (did you mean 'epochs'?)"),
        (
            {"preprocess": {"tissue": {"mask_mp": 3}}},
            "unknown key 'preprocess.tissue.mask_mp' (did you mean 'mask_mpp'?)",
        ),
        ({"stages": {"inference": "x"}}, "unknown key 'stages.inference' (known: preprocess, train)"),
    ],
)
def test_a_wrong_key_is_named_with_the_nearest_known_one(data: dict[str, Any], said: str) -> None:
    assert said in refused(LEAST | data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"train": {"epochs": 0}}, "train.epochs = 0: Input should be greater than or equal to 1"),
        ({"transfer": {"protocol": "ftp"}}, "transfer.protocol = 'ftp': Input should be 'auto', 'local'"),
        ({"train": {"head_epochs": 10}}, "head_epochs must be fewer than epochs"),
        ({"train": {"decay": "step"}}, "decay = 'step' and decay_epochs belong together"),
        ({"train": {"decay_epochs": [3]}}, "decay = 'step' and decay_epochs belong together"),
        ({"train": {"decay": "step", "decay_epochs": [3, 2]}}, "decay_epochs must rise"),
        ({"train": {"weight_decay": 0.1}}, "weight_decay is for adamw, lamb and lars, not for sgd"),
        ({"train": {"loss": "hinge"}}, "train.loss = 'hinge'"),
        ({"train": {"dropout": 1.0}}, "train.dropout = 1.0"),
        ({"name": "Über"}, "name = 'Über': String should match pattern"),
        ({"preprocess": {"grid_splits": ["tset"]}}, "preprocess.grid_splits.0 = 'tset'"),
        ({"preprocess": {"min_tumour_fraction": 0}}, "preprocess.min_tumour_fraction = 0"),
        ({"preprocess": {"min_tissue_fraction": float("nan")}}, "preprocess.min_tissue_fraction = nan"),
        ({"transfer": {"stall_s": float("inf")}}, "transfer.stall_s = inf: Input should be a finite number"),
        ({"preprocess": 5}, "preprocess = 5"),
        ({"preprocess": {"window_percent": [20, 10]}}, "window_percent must be [from, to) with 0 <= from < to <= 100"),
        ({"preprocess": {"window_percent": [10, 10]}}, "window_percent must be [from, to)"),
        ({"preprocess": {"window_percent": [-1, 10]}}, "preprocess.window_percent.0 = -1"),
        ({"preprocess": {"window_percent": [0, 100.5]}}, "preprocess.window_percent.1 = 100.5"),
        ({"preprocess": {"window_percent": [0]}}, "preprocess.window_percent.1"),
        ({"preprocess": {"grid_jitter": 1.5}}, "preprocess.grid_jitter = 1.5"),
        (
            {"preprocess": {"max_white_fraction": 0.8, "white_fraction_step": 0.05}},
            "white_fraction_most must not be below max_white_fraction",
        ),
        ({"cohort": {"slides": "s", "tumour_values": [0]}}, "cohort.tumour_values.0 = 0"),
        ({"cohort": {"slides": "s", "tumour_values": [256]}}, "cohort.tumour_values.0 = 256"),
        ({"cohort": {"slides": "s", "tumour_values": []}}, "cohort.tumour_values"),
        ({"cohort": {"slides": "s", "centres": ["two"]}}, "cohort.centres.0 = 'two'"),
        ({"cohort": {"slides": "s", "patients": "P1"}}, "cohort.patients = 'P1'"),
        ({"preprocess": {"tissue": {"method": "hsb"}}}, "preprocess.tissue.method = 'hsb'"),
        ({"preprocess": {"tissue": {"max_blur_um": 0.1}}}, "preprocess.tissue.max_blur_um = 0.1"),
        ({"preprocess": {"tissue": {"fill_holes_um2": -1}}}, "preprocess.tissue.fill_holes_um2 = -1"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(data: dict[str, Any], said: str) -> None:
    assert said in refused(LEAST | data)


def test_all_problems_are_told_at_once() -> None:
    said = refused({"sed": 1, "train": {"epochs": 0, "momentun": 0.5}, "cohort": {"validation_fraction": 2}})
    assert len(said.split("; ")) == 5
    for part in ("'sed'", "train.epochs = 0", "'momentum'", "cohort.validation_fraction = 2", "'cohort.slides'"):
        assert part in said


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_fractions_leave_patients_for_training(validation: float, test: float) -> None:
    data = {"slides": "s", "validation_fraction": validation, "test_fraction": test}
    if validation + test < 1:
        assert validated(CohortConfig, data, "x").test_fraction == test
    else:
        with pytest.raises(InputError, match=r"below 1|less than 1"):
            validated(CohortConfig, data, "x")


def test_a_problem_of_a_section_is_told_without_repeating_it() -> None:
    said = refused({"cohort": {"slides": "s", "validation_fraction": 0.5, "test_fraction": 0.5}})
    assert said == "has cohort: validation_fraction + test_fraction must leave patients for training (below 1)"


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    path = tmp_path / "deep" / "run.toml"
    path.write_text(
        'sites = "../sites"\n'
        '[cohort]\nslides = "slides"\nannotations = "/abs/xml"\nstages = "../stages.csv"\n'
        '[train]\nweights = "w/a.weights.h5"\n'
    )
    config = load_config(path)
    assert config.cohort.slides == tmp_path / "deep" / "slides"
    assert config.cohort.annotations == Path("/abs/xml")
    assert config.cohort.stages is not None
    assert config.cohort.stages.resolve() == tmp_path / "stages.csv"
    assert config.sites is not None
    assert config.sites.resolve() == tmp_path / "sites"
    assert config.train.weights == tmp_path / "deep" / "w" / "a.weights.h5"
    path.write_text(path.read_text().replace("w/a.weights.h5", "imagenet"))
    assert load_config(path).train.weights == "imagenet"


def test_paths_that_are_not_given_stay_away() -> None:
    config = parse_config(LEAST, folder=Path("/data"), source="run.toml")
    assert (config.cohort.annotations, config.cohort.stages, config.sites, config.train.weights) == (None,) * 4


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a = \n", "is not TOML"),
        (b"a = 1\na = 2\n", "is not TOML"),
        (b"\xff\xfe\x00", "cannot be read"),
        (None, "No such"),
    ],
)
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "run.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        load_config(path)
    assert caught.value.subject == str(path)


def test_a_file_is_utf8_whatever_the_locale_and_editor(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_bytes('\ufeff[cohort]\nslides = "Präparate"\n'.encode())
    code = (
        "import sys\nfrom pathlib import Path\nfrom tasks.config import read_toml\n"
        "print(ascii(read_toml(Path(sys.argv[1]))))\n"
    )
    command = [sys.executable, "-X", "utf8=0", "-c", code, str(tmp_path / "run.toml")]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    said = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == ascii({"cohort": {"slides": "Präparate"}})


def test_a_configuration_travels_as_json() -> None:
    data = LEAST | {"train": {"weights": "w.weights.h5", "silence_s": 5}, "preprocess": {"grid_splits": []}}
    config = parse_config(data, folder=Path("/data"), source="run.toml")
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_the_schema_tells_units_and_ranges_of_every_section() -> None:
    schema = json.loads(json.dumps(RunConfig.model_json_schema()))
    assert schema["required"] == ["cohort"]
    assert set(schema["properties"]) == set(RunConfig.model_fields)
    train = schema["$defs"]["TrainConfig"]["properties"]
    assert (train["epochs"]["minimum"], train["epochs"]["maximum"], train["epochs"]["default"]) == (1, 10_000, 10)
    assert "µm per pixel" in schema["$defs"]["TissueConfig"]["properties"]["mask_mpp"]["description"]
    assert all(part["additionalProperties"] is False for part in [schema, *schema["$defs"].values()])


def numbers(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The numbers that a value may be, or be made of."""
    kinds = schema.get("anyOf", [schema])
    inner = [part for kind in kinds for part in [kind.get("items", {}), *kind.get("prefixItems", [])]]
    return [kind for kind in [*kinds, *inner] if kind.get("type") in ("number", "integer")]


def values(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Name and schema of each value, in all sections."""
    sections = {"": schema, **schema["$defs"]}
    found = [(f"{name}.{key}", of) for name, part in sections.items() for key, of in part["properties"].items()]
    return [(name, of) for name, of in found if "$ref" not in of]


def test_every_value_is_described_and_every_number_has_a_unit_and_a_range() -> None:
    units = (
        "µm|pixels?|px|patch|patches|bytes|seconds?|minutes?|epochs?|share|percent|gray levels?|values|positions"
        "|numbers?|ranks|times|tries|connections|factor|exponent|probability|quantile|step a unit|standard deviation"
    )
    described = values(RunConfig.model_json_schema())
    assert len(described) > 60
    for name, schema in described:
        told = schema.get("description", "")
        assert len(told) > 10, f"{name} is not described"
        for number in numbers(schema):
            assert {"minimum", "exclusiveMinimum"} & set(number), f"{name} has no least value"
            assert {"maximum", "exclusiveMaximum"} & set(number), f"{name} has no greatest value"
            assert re.search(rf"\b({units})\b", told), f"{name} has no unit: {told}"


def test_every_key_that_is_misspelt_is_answered_with_the_right_one() -> None:
    for section, model in (("train", TrainConfig), ("preprocess", PreprocessConfig), ("cohort", CohortConfig)):
        for key in model.model_fields:
            wrong = key[:-1] if len(key) > 3 else f"{key}{key[-1]}"
            if wrong not in model.model_fields:
                said = refused({"cohort": {"slides": "s"}} | {section: {wrong: 1}})
                assert f"unknown key '{section}.{wrong}' (did you mean " in said
                assert f"'{key}'?" in said


def test_the_configuration_of_the_demonstration_is_valid() -> None:
    data = LEAST | {"preprocess": demo.PREPROCESS, "train": demo.TRAIN}
    assert parse_config(data, folder=Path("/data"), source="demo").train.epochs == demo.TRAIN["epochs"]
