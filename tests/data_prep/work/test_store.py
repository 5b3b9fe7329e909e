"""A slide's folder: what makes its work good, and who may write it."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from data_prep.slides.table import find_slides
from data_prep.work.job import SlideJob
from data_prep.work.prepare_slide import prepare_slide
from data_prep.work.state import DoneSlide, FailedSlide
from data_prep.work.store import SlideStore
from tests.helpers.prepare import MeanColour
from tests.helpers.tiny_slides import SUFFIXES, tiny_settings
from zoomldm.encoder.stats import StatsEncoder


@pytest.fixture
def job(tiny_slide, tmp_path):
    """Return the job of a slide that says its scale."""
    return job_of(tiny_slide("a", width=400, height=360), tmp_path)


def job_of(path, tmp_path, *, mpp=None, **values):
    spec = find_slides(str(path), SUFFIXES, mpp)[0][0]
    return SlideJob(spec=spec, settings=tiny_settings(mpp=mpp, **values), root=tmp_path / "data", by_area=False)


def is_done(job, regions=None):
    return job.store.is_done(job.spec, by_area=job.by_area, regions=regions)


def test_a_state_is_read_as_it_was_written(job):
    state = prepare_slide(job)
    assert isinstance(state, DoneSlide)
    found = job.store.state()
    assert json.dumps(found.to_dict()) == json.dumps(state.to_dict())
    assert (found.file, found.scale.pitch_px0, found.counts) == (state.file, 1.0, state.counts)


def test_the_work_of_an_older_version_is_good_if_the_file_is_the_same(job):
    prepare_slide(job)
    path = job.store.folder / "state.json"
    content = json.loads(path.read_bytes())
    del content["told"]
    path.write_text(json.dumps(content))
    assert is_done(job)
    assert is_done(replace(job, by_area=True))  # it did not say which
    job.spec.path.write_bytes(job.spec.path.read_bytes() + b"x")
    assert not is_done(job)


def test_a_damaged_state_is_none(job):
    prepare_slide(job)
    (job.store.folder / "state.json").write_text('{"status": "done"}')
    assert job.store.state() is None
    assert not is_done(job)


def test_the_scale_is_the_slides_own_and_a_corrected_one_counts(tiny_slide, tmp_path, job):
    unscaled = job_of(tiny_slide("u", mpp=None, width=400, height=360), tmp_path, mpp=0.5)
    for one in (job, unscaled):
        prepare_slide(one)
        assert is_done(one)
    assert not is_done(replace(unscaled, spec=replace(unscaled.spec, spare_mpp=0.25)))
    assert is_done(replace(job, spec=replace(job.spec, spare_mpp=0.25)))  # its file says
    assert not is_done(replace(job, spec=replace(job.spec, mpp=0.25)))  # the table wins over the file


def test_drawn_regions_and_a_second_patient_make_the_work_stale(job, tmp_path):
    regions = tmp_path / "regions"
    regions.mkdir()
    prepare_slide(job)
    assert is_done(job, regions=str(regions))
    (regions / "a.geojson").write_text("[]")
    assert not is_done(job, regions=str(regions))
    assert not is_done(replace(job, by_area=True))


def test_what_a_killed_process_left_goes_and_a_failed_write_leaves_the_old_work(tmp_path):
    store = SlideStore(tmp_path, "a")
    store.folder.mkdir(parents=True)
    (store.folder / "old").touch()
    for name in (".a.part", ".a.elsewhere-123.part"):  # as older versions named it, and of another process
        store.folder.with_name(name).mkdir()
    other = store.folder.with_name(".ab.elsewhere-1.part")
    other.mkdir()

    def write():
        with store.lock(), store.written_aside() as aside:
            (aside.folder / "new").touch()
            assert aside.folder.name.endswith(f"-{os.getpid()}.part")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert [p.name for p in store.folder.iterdir()] == ["old"]
    assert sorted(p.name for p in store.folder.parent.iterdir()) == [".ab.elsewhere-1.part", ".locks", "a"]


def test_the_samples_of_a_rung_come_back_as_they_were_kept(job):
    state = prepare_slide(job)
    cells, rows = job.store.cells(), job.store.rows()
    assert rows.shape == (state.num_tiles_encoded + 1, StatsEncoder.dim)
    assert np.array_equal(np.unique(cells[cells > 0]), np.arange(1, len(rows)))
    for rung in job.settings.ladder.rungs:
        samples = job.store.samples(rung.index)
        assert len(samples.corner) == state.counts[rung.label]
        assert np.array_equal(samples.corner_px0, 16 * samples.corner[:, ::-1])


def test_rows_that_wait_are_known_by_their_encoder(job):
    prepare_slide(job)
    store, encoder = job.store, MeanColour()
    rows = np.ones((store.rows().shape[0], 3), np.float32)
    assert store.new_encoder() is None
    store.save_new_rows(rows, encoder)
    assert store.new_encoder()["name"] == "mean"
    assert store.done().encoder["name"] == "stats"
    store.take_new_rows()
    assert store.new_encoder() is None
    assert store.done().encoder["name"] == "mean"
    assert np.array_equal(store.rows(), rows)


def test_a_failed_slide_keeps_its_traceback_and_nothing_else(tiny_slide, tmp_path):
    path = tiny_slide("a", width=400, height=360)
    path.write_bytes(path.read_bytes()[:3000])
    job = job_of(path, tmp_path)
    state = prepare_slide(job)
    assert isinstance(state, FailedSlide)
    assert job.store.state() == state
    assert sorted(p.name for p in job.store.folder.iterdir()) == ["error.txt", "state.json"]
    assert job.store.error_path.read_text().startswith("Traceback")
