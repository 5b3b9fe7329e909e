"""A slide over which processes die is not tried for ever."""

import os

from data_prep.work import prepare_slide as work
from data_prep.work.attempts import MAX_ATTEMPTS
from data_prep.work.state import FailedSlide
from data_prep.work.store import SlideStore
from tests.helpers.prepare import prepare_folder
from tests.helpers.stops import ForkExecutor
from zoomldm.files import sha256_of


def test_a_slide_that_kills_its_process_is_given_up_and_tried_again_when_it_is_another(slides, tmp_path, monkeypatch):
    data, tried = tmp_path / "data", tmp_path / "tried"
    original = work._prepare

    def kills(job, *rest):
        if job.spec.name == "b":
            with open(tried, "a") as stream:
                stream.write("x")
            os._exit(9)
        return original(job, *rest)

    monkeypatch.setattr(work, "_prepare", kills)
    store = SlideStore(data, "b")
    for number in range(MAX_ATTEMPTS + 2):
        prepare_folder(slides, data, executor=ForkExecutor(), max_failed=1.0)
        assert len(tried.read_text()) == min(number + 1, MAX_ATTEMPTS)
        assert isinstance(store.state(), FailedSlide)
    assert f"has died {MAX_ATTEMPTS} times" in store.state().reason
    assert "b.attempts is deleted" in store.state().reason
    monkeypatch.undo()
    before = sha256_of(data / "slides" / "a" / "state.json")
    prepare_folder(slides, data, executor=ForkExecutor())
    assert isinstance(store.state(), FailedSlide)
    os.utime(slides / "b.tif", ns=(1, 1))
    prepare_folder(slides, data, executor=ForkExecutor())
    assert store.done() is not None
    assert not list((data / "slides" / ".locks").glob("*.attempts"))
    assert sha256_of(data / "slides" / "a" / "state.json") == before
