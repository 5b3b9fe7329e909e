"""What patches on disk say of themselves, and that webdataset reads them."""

import json
from pathlib import Path

import numpy as np
import pytest
import webdataset as wds

from zoomldm.data.shards import ColumnReader
from zoomldm.sampling.outputs.base import Made, Output
from zoomldm.sampling.outputs.jsonl import JsonLinesOutput
from zoomldm.sampling.outputs.png import PngOutput, facts_of, png_path
from zoomldm.sampling.outputs.shards import FIELDS, PARTS, ShardOutput

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
TOKENS = np.arange(10 * 2 * 3, dtype=np.float16).reshape(10, 2, 3)


def shards(**values) -> ShardOutput:
    return ShardOutput(**{"name": "shards", "shard_samples": 4, "labels": {"stain": "HE"}} | values)


def kept(output: Output, folder: Path, num: int = 10, batch: int = 3) -> Path:
    """Keep patches batch by batch, the later ones first, as two processes may."""
    output.begin(folder)
    for start in reversed(range(0, num, batch)):
        places = range(start, min(start + batch, num))
        facts = [{"key": f"s_r1_x{i}_y0", "number": i, "labels": {"grade": str(i % 2)}} for i in places]
        part = slice(places.start, places.stop)
        output.keep(folder, Made(places=places, images=IMAGES[part], tokens=TOKENS[part], facts=facts))
    output.finish(folder, num)
    return folder


@pytest.mark.parametrize("output", [PngOutput(name="png"), JsonLinesOutput(name="jsonl"), shards()])
def test_patches_come_back_in_their_order(output, tmp_path):
    np.testing.assert_array_equal(output.images(kept(output, tmp_path), 7), IMAGES[:7])


def test_a_png_and_a_line_say_how_a_patch_was_made(tmp_path):
    kept(JsonLinesOutput(name="jsonl"), tmp_path)
    assert facts_of(png_path(tmp_path, 3)) == {"key": "s_r1_x3_y0", "number": 3, "labels": {"grade": "1"}}
    lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines] == list(range(10))
    assert lines[3] == {"file": "00003.png"} | facts_of(tmp_path / "00003.png")


def test_plain_webdataset_reads_patch_labels_and_condition(tmp_path):
    kept(shards(), tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == ["00000.tar", "00001.tar", "00002.tar"]
    assert not (tmp_path / PARTS).exists()
    tars = str(tmp_path / "{00000..00002}.tar")
    read = list(wds.WebDataset(tars, shardshuffle=False).decode("rgb8").to_tuple("png", "json", "tokens.npy"))
    assert len(read) == 10
    for i, (image, facts, tokens) in enumerate(read):
        np.testing.assert_array_equal(image, IMAGES[i])
        np.testing.assert_array_equal(tokens, TOKENS[i])
        assert facts["labels"] == {"grade": str(i % 2), "stain": "HE"}


def test_the_reader_of_shards_reads_any_of_them(tmp_path):
    kept(shards(), tmp_path)
    reader = ColumnReader(tmp_path / "00001.tar", FIELDS)
    assert reader.key(2) == "s_r1_x6_y0"
    assert json.loads(reader[2]["json"])["number"] == 6


def test_batches_change_no_byte_and_a_shorter_series_leaves_nothing_of_a_longer_one(tmp_path):
    first, second = kept(shards(), tmp_path / "a"), kept(shards(), tmp_path / "b", batch=10)
    for path in sorted(first.iterdir()):
        assert path.read_bytes() == (second / path.name).read_bytes()
    kept(shards(), first, num=5)
    assert sorted(path.name for path in first.glob("*.tar")) == ["00000.tar", "00001.tar"]
    with pytest.raises(ValueError, match="shard_samples=0"):
        shards(shard_samples=0)
