"""metrics.jsonl keeps full precision and goes back to a step exactly."""

import math

from hypothesis import given
from hypothesis import strategies as st

from zoomldm.runs.records import MetricsLog, read_lines


@given(value=st.floats(allow_nan=False))
def test_values_come_back_to_the_last_bit(tmp_path_factory, value):
    log = MetricsLog(tmp_path_factory.mktemp("log") / "metrics.jsonl")
    log.write(1, {"loss": value, "nan": math.nan})
    first, second = log.read()
    assert (first["value"], first["name"], first["step"]) == (value, "loss", 1)
    assert math.isnan(second["value"])


def test_truncation_takes_later_steps_and_torn_lines(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.truncate(5)
    for step in range(1, 8):
        log.write(step, {"a": step, "b": -step})
    before = log.path.read_bytes()
    log.path.write_bytes(before + b'{"step": 8, "na')
    assert len(log.read()) == 14
    log.truncate(8)
    assert log.path.read_bytes() == before
    log.truncate(3)
    assert [line["step"] for line in log.read()] == [1, 1, 2, 2, 3, 3]
    log.truncate(0)
    assert log.read() == []


def test_no_file_has_no_lines(tmp_path):
    assert read_lines(tmp_path / "none.jsonl") == []
