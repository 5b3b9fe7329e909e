"""Labels: what a table says of whom, how they are asked for, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.helpers.toy_data import make_toy_data
from zoomldm.config import option_of
from zoomldm.data.reader import SampleSource
from zoomldm.errors import ConfigError, DataError
from zoomldm.label.base import Label

BY_PATCH = "key,tissue,share\ns0-test_r1_x0_y0,fat,0.9\ns0-test_r1_x100_y0,,0.3\ns0-test_r2_x0_y0,tumour,0.6\n"
BY_SLIDE = "path,subtype,ER,PR\n/a/s0.train.svs,luminal,1,0.5\ns1.train.svs,basal,0,\ns0.test.svs,luminal,3,4\n"


def make(kind, file, **values):
    return option_of("label", kind, file=str(file), **values).make(Label)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "labels.csv"

    def write(text):
        path.write_text(text)
        return path

    return write


def test_a_class_is_a_one_among_zeros_and_an_empty_field_is_no_label(table):
    labels = make("class", table(BY_PATCH), column="tissue").read()
    assert labels.names == ("fat", "tumour")
    assert {key: value.tolist() for key, value in labels.values.items()} == {
        "s0-test_r1_x0_y0": [1, 0],
        "s0-test_r2_x0_y0": [0, 1],
    }


def test_slides_are_named_by_their_files_and_patches_have_the_labels_of_theirs(table, tmp_path):
    make_toy_data(tmp_path / "data")
    source = SampleSource(tmp_path / "data", split="train", columns=("meta",))
    metas = source.read(np.zeros(4, int), np.arange(4)).meta
    labels = make("class", table(BY_SLIDE), column="subtype").read()
    assert labels.names == ("basal", "luminal")
    assert labels.told(metas).tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_a_patchs_own_label_is_none_of_a_part_of_it(table, tmp_path):
    make_toy_data(tmp_path / "data")
    source = SampleSource(tmp_path / "data", split="test", columns=("meta",))
    metas = [replace(meta, key=f"s0-test_r1_x{i * 100}_y0") for i, meta in enumerate(source.read([0, 0], [0, 1]).meta)]
    labels = make("class", table(BY_PATCH), column="tissue").read()
    assert labels.told(metas).tolist() == [[1, 1, 0], [0, 0, 0]]
    assert labels.told(metas, of_slides=True).tolist() == [[0, 0, 0]] * 2


def test_a_vector_needs_all_of_its_columns(table):
    labels = make("vector", table(BY_SLIDE), columns=["ER", "PR"]).read()
    assert (labels.names, set(labels.values)) == (("ER", "PR"), {"s0.train", "s0.test"})
    assert labels.values["s0.train"].tolist() == [1, 0.5]


def test_vectors_are_standardised_over_training_slides(table, tmp_path):
    manifest = make_toy_data(tmp_path / "data")
    labels = make("vector", table(BY_SLIDE), columns=["ER", "PR"]).read()
    assert labels.of_training(manifest).tolist() == [[1, 0.5]]
    by_patch = make("class", table(BY_PATCH.replace("s0-test", "s0_train")), column="tissue").read()
    assert len(by_patch.of_training(manifest)) == 2
    elsewhere = make("class", table("slide,subtype\nmine,luminal\n"), column="subtype").read()
    with pytest.raises(DataError, match=r"1 labels \(mine …\), none of a training slide.*s0.train"):
        elsewhere.of_training(manifest)


@pytest.mark.parametrize("kind", ["safetensors", "folder"])
def test_vectors_of_slides_without_a_table(kind, tmp_path):
    vectors = {"s0": np.arange(3.0), "s1": np.ones(3)}
    if kind == "folder":
        for name, value in vectors.items():
            np.save(tmp_path / f"{name}.npy", value)
    else:
        save_file(vectors, tmp_path / "a.safetensors")
    labels = make("vector", tmp_path if kind == "folder" else tmp_path / "a.safetensors").read()
    assert labels.names == ("0", "1", "2")
    assert labels.values["s0"].tolist() == [0, 1, 2]
    assert labels.values["s0"].dtype == np.float32


def test_the_hash_is_that_of_what_is_said_and_not_of_the_file(table):
    first = make("class", table(BY_SLIDE), column="subtype").read().sha256
    assert make("class", table(BY_SLIDE.replace("0.5", "0.7")), column="subtype").read().sha256 == first
    assert make("class", table(BY_SLIDE.replace("basal", "her2")), column="subtype").read().sha256 != first


def test_what_is_asked_for(tmp_path):
    tissue, vector = make("class", "x.csv", column="tissue"), make("vector", "x.csv")
    assert tissue.numbers("fat", ("fat", "tumour")).tolist() == [1, 0]
    assert vector.numbers([2, 3], ("ER", "PR")).tolist() == [2, 3]
    np.save(tmp_path / "v.npy", np.array([4.0, 5.0]))
    assert vector.numbers(str(tmp_path / "v.npy"), ("ER", "PR")).tolist() == [4, 5]


@pytest.mark.parametrize(
    ("kind", "asked", "message"),
    [
        ("class", "fatt", "label fatt: there is none of this tissue; did you mean 'fat'.*fat or tumour"),
        ("vector", [1, 2, 3], r"shape \(3,\); this model was told 2 numbers \(fat, tumour\)"),
        ("vector", "nowhere.npy", "expected 2 numbers"),
        ("vector", [1, float("nan")], "not a finite number"),
        ("vector", ["a", "b"], "not a number"),
    ],
)
def test_a_label_that_is_none_is_refused(kind, asked, message):
    label = make(kind, "x.csv", **({"column": "tissue"} if kind == "class" else {}))
    with pytest.raises((ConfigError, DataError), match=message):
        label.numbers(asked, ("fat", "tumour"))


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("slide,subtype\na,luminal\n", "subtyp", "no column subtyp; did you mean 'subtype'"),
        ("slide,subtype\na,\n", "subtype", "column subtype is empty"),
        ("name,subtype\na,b\n", "subtype", "columns name, subtype; expected one of key, slide, path"),
        ("slide,subtype\na,b\na,c\n", "subtype", "line 3: a has a line already"),
    ],
)
def test_a_table_that_says_nothing_is_refused(text, column, message, table):
    with pytest.raises(DataError, match=message):
        make("class", table(text), column=column).read()


def test_files_that_are_no_labels_are_refused(table, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        make("class", tmp_path / "x.csv", column="a").read()
    with pytest.raises(DataError, match=r"no such .csv, .safetensors or folder"):
        make("vector", tmp_path / "x.safetensors").read()
    with pytest.raises(ConfigError, match=r"label\.columns: which"):
        make("vector", table(BY_SLIDE)).read()
    with pytest.raises(DataError, match=r"column subtype: s0\.train: not a number"):
        make("vector", table(BY_SLIDE), columns=["subtype"]).read()
    np.save(tmp_path / "a.npy", np.ones(2))
    np.save(tmp_path / "b.npy", np.ones(3))
    with pytest.raises(DataError, match="vectors of one length"):
        make("vector", tmp_path).read()
    with pytest.raises(ConfigError, match="dropout_p=1"):
        make("class", tmp_path, column="a", dropout_p=1)
