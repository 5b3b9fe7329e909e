"""The rows mean what they say: halves lowest, blur and noise above, untrained far, shuffled seen beside its pair."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.helpers.options import make_solver
from tests.helpers.toy_evaluation import ALL_ROWS as ROWS
from tests.helpers.toy_evaluation import (
    LADDER,
    ONE_PROCESS,
    ToyAutoencoder,
    ToyEDM,
    ToyModel,
    ToySource,
    synthesised_and_run,
    toy_evaluator,
)
from zoomldm.encoder.stats import StatsEncoder
from zoomldm.errors import DataError, UserError
from zoomldm.evaluation.claims import same_samples
from zoomldm.evaluation.evaluator import Evaluator
from zoomldm.evaluation.record import computed_or_read
from zoomldm.evaluation.result import Evaluation
from zoomldm.evaluation.rows.shuffled import shuffle_among
from zoomldm.evaluation.rows.untrained import Untrained
from zoomldm.evaluation.stored import load_evaluation, stored_evaluations, stored_examples
from zoomldm.sampling.generator import PatchGenerator, sample_number
from zoomldm.sampling.settings import Sampling

SOURCE = ToySource()


def evaluator(folder=None, *, source=SOURCE, **options) -> Evaluator:
    return toy_evaluator(folder, source=source, **options)


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluator(edm=ToyEDM(), untrained=ToyModel(9), encoder=StatsEncoder()).run(run_name="toy", step=5)


def test_every_row_at_every_magnification(evaluation):
    assert evaluation.rows == list(ROWS)
    assert evaluation.magnifications == ["20x", "10x", "5x"]
    for row in ROWS:
        for label in evaluation.magnifications:
            assert evaluation.cell(row, label).num == (120 if row == "held_out" else 150)


def test_the_order_of_the_rows(evaluation):
    for label in evaluation.magnifications:
        value = {row: evaluation.cell(row, label).distance.value for row in ROWS}
        assert value["halves"] < value["reconstructions"]
        assert value["halves"] < value["oracle"] < value["untrained"]
        assert value["halves"] < value["generated"] < value["untrained"]


def test_the_untrained_network_is_asked_less_often_than_the_trained_one():
    bench = evaluator(untrained=ToyModel(9)).bench
    many = replace(bench.generator.sampling, steps=20)
    bench = replace(bench, generator=bench.generator.of(bench.generator.model, many))
    asked = Untrained(name="untrained").generator(SimpleNamespace(bench=bench))
    assert isinstance(asked.model, ToyModel)
    assert asked.model.noise == 9
    assert (asked.sampling.steps, asked.sampling.guidance_scale) == (5, 1.0)
    assert asked.sampling.solver is many.solver
    few = Untrained(name="untrained").generator(SimpleNamespace(bench=evaluator(untrained=ToyModel(9)).bench))
    assert few.sampling.steps == 2, "no more than the evaluation's"


def test_shuffling_shows_in_pairs_and_not_in_sets(evaluation):
    for label in evaluation.magnifications:
        right, shuffled = evaluation.cell("oracle", label), evaluation.cell("shuffled", label)
        assert shuffled.paired.value > 2 * right.paired.value
        assert shuffled.distance.value == pytest.approx(right.distance.value, rel=0.3)


def test_claims_hold_where_they_should(evaluation):
    assert {claim.verdict for claim in evaluation.claims} == {"holds"}
    assert len(evaluation.claims) == 5


def test_the_conditioning_descriptor_is_marked(evaluation):
    assert [info.conditions_model for info in evaluation.descriptors] == [False, True]


def test_fidelity_prefers_the_right_condition(evaluation):
    fidelity = evaluation.measured("fidelity")
    assert fidelity["oracle"]["20x"]["fidelity"].value > fidelity["shuffled"]["20x"]["fidelity"].value
    assert set(fidelity["oracle"]) == {"20x"}
    assert set(fidelity) == {"reconstructions", "oracle", "shuffled", "untrained"}


def test_memorisation_is_asked_of_what_is_new(evaluation):
    assert set(evaluation.measured("memorisation")) == {"oracle", "generated"}


def test_every_figure_reaches_the_tracker(evaluation):
    logged = evaluation.metrics()
    assert logged["fd_stats/oracle/5x"] == evaluation.cell("oracle", "5x", "fd_stats").distance.value
    assert logged["fd_stats.kid/halves/5x"] == evaluation.cell("halves", "5x", "fd_stats").measures["kid"].value
    assert 0 <= logged["fd_texture.precision_recall.recall/oracle/20x"] <= 1


def test_the_same_patches_in_another_data_set_are_known_as_the_same(evaluation):
    same = evaluator(rows=["halves"])
    object.__setattr__(same.bench, "identity", same.bench.identity | {"data": "with other grids"})
    other = same.run(run_name="other")
    assert not {*other.reference_ids.values()} & {*evaluation.reference_ids.values()}
    assert other.reference_patches == evaluation.reference_patches
    assert all(same_samples(evaluation, other, label) for label in evaluation.magnifications)
    fewer = evaluator(rows=["halves"], num_per_magnification=100).run(run_name="fewer")
    assert not any(same_samples(evaluation, fewer, label) for label in evaluation.magnifications)


def test_json_round_trip(evaluation, tmp_path):
    evaluation.save(tmp_path / "e.json")
    assert load_evaluation(tmp_path / "e.json") == evaluation


def test_another_format_version_is_refused(tmp_path):
    (tmp_path / "e.json").write_text('{"format_version": 99, "kind": "zoomldm-evaluation"}')
    with pytest.raises(UserError, match="version 99"):
        load_evaluation(tmp_path / "e.json")


def test_same_seed_same_figures_whatever_the_batches(evaluation):
    again = evaluator(edm=ToyEDM(), rows=["halves", "oracle"], batch_size=50).run(run_name="toy")
    for label in evaluation.magnifications:
        assert again.cell("halves", label).distance == evaluation.cell("halves", label).distance
        assert again.cell("oracle", label).distance.value == pytest.approx(
            evaluation.cell("oracle", label).distance.value, rel=1e-4
        )


def test_goes_on_where_it_stopped(tmp_path):
    class Interrupted(ToyModel):
        def sample(self, *args, **kwargs):
            if self.num_calls == 4:
                raise KeyboardInterrupt
            return super().sample(*args, **kwargs)

    rows = ["halves", "oracle"]
    with pytest.raises(KeyboardInterrupt):
        synthesised_and_run(evaluator(tmp_path, model=Interrupted(0.05), rows=rows))
    model = ToyModel(0.05)
    resumed = synthesised_and_run(evaluator(tmp_path, model=model, rows=rows))
    assert model.num_calls == 9 - 4
    assert resumed.cells == synthesised_and_run(evaluator(rows=rows)).cells
    again = ToyModel(0.05)
    synthesised_and_run(evaluator(tmp_path, model=again, rows=rows))
    assert again.num_calls == 0


def test_a_damaged_chunk_is_made_again(tmp_path):
    rows = ["oracle"]
    synthesised_and_run(evaluator(tmp_path, rows=rows))
    next(tmp_path.glob("oracle-20x-*/00001.npz")).write_bytes(b"PK")
    model = ToyModel(0.05)
    synthesised_and_run(evaluator(tmp_path, model=model, rows=rows))
    assert model.num_calls == 1


def test_a_second_evaluation_of_the_same_is_read_and_not_computed(tmp_path):
    logged, kept = {}, []

    def run(**plan):
        one = evaluator(tmp_path / "patches", rows=["halves", "oracle"], **plan)
        return computed_or_read(
            one, tmp_path, fabric=ONE_PROCESS, run_name="toy", step=3, log=logged.update, keep=kept.append
        )

    first, known = run()
    assert not known
    assert (tmp_path / "report" / "index.html").is_file()
    assert "fd_texture/oracle/20x" in logged
    assert kept == [tmp_path / "report"]
    second, known = run()
    assert known
    assert len(kept) == 1
    assert second == first
    assert not run(seed=1)[1]
    assert stored_evaluations(tmp_path, "fd_texture")[0].settings["seed"] == 1
    pictured = {"reference", "oracle", "nearest", "nearest reference", "farthest", "farthest reference"}
    assert set(stored_examples(tmp_path, "fd_texture").patches) == pictured


def test_fewer_rows_than_there_are_leave_the_fuller_report(tmp_path):
    def run(rows):
        one = evaluator(tmp_path / "patches", edm=ToyEDM() if "generated" in rows else None, rows=rows)
        return computed_or_read(one, tmp_path, fabric=ONE_PROCESS, run_name="toy", step=3)

    full, _ = run(["halves", "oracle", "generated"])
    report = (tmp_path / "report" / "index.html").read_bytes()
    assert run(["halves", "oracle"]) == (full, True)
    assert (tmp_path / "report" / "index.html").read_bytes() == report
    more, known = run(["halves", "oracle", "generated", "shuffled"])
    assert (known, "shuffled" in more.rows) == (False, True)


def test_what_cannot_be_had_is_left_out_with_a_note():
    found = evaluator(model=ToyModel(0.05, columns=("latent",))).run(run_name="mag")
    assert found.rows == ["halves", "held_out", "reconstructions", "oracle"]
    assert len([note for note in found.notes if "left out" in note]) == 3


def test_few_patches_are_shown_and_not_judged():
    found = evaluator(source=ToySource(num_train=100, num_test=3), rows=["halves", "held_out", "oracle"]).run(
        run_name="x"
    )
    assert found.cell("oracle", "20x").num == 50
    assert not found.cell("oracle", "20x").judged
    assert found.cell("held_out", "20x") is None
    assert {claim.verdict for claim in found.claims} == {"not judged"}
    assert any("evaluated with 50 instead of 150" in note for note in found.notes)


def test_no_patches_at_all_is_an_error():
    with pytest.raises(UserError, match="nothing to evaluate"):
        evaluator(source=ToySource(num_train=10)).run(run_name="x")


def test_data_that_end_early_are_an_error_and_no_other_row():
    class Short(ToySource):
        def batches(self, **wanted):
            yield next(super().batches(**wanted))

    with pytest.raises(DataError, match="ended after 64 of 150"):
        evaluator(source=Short(), rows=["oracle"], edm=ToyEDM()).run(run_name="x")


def test_generated_without_edm_names_the_command():
    with pytest.raises(UserError, match="model=edm"):
        PatchGenerator(
            ToyModel(0.1),
            ToyAutoencoder(),
            sampling=Sampling(solver=make_solver(), steps=2, guidance_scale=1.0, guidance_interval=None),
        ).from_edm(0, [0])


def test_noise_numbers_differ_between_magnifications():
    assert len({sample_number(rung, place) for rung in LADDER.rungs for place in range(100)}) == 300


@pytest.mark.parametrize("sizes", [(5, 5, 5), (1, 2, 3, 4), (6, 3, 3), (1, 1)])
def test_shuffling_gives_every_condition_to_another_patient(sizes):
    patients = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes)).astype(str)
    belongs_to = shuffle_among(patients, np.random.default_rng(1))
    assert sorted(belongs_to) == list(range(len(patients)))
    assert (patients != patients[belongs_to]).all()


@pytest.mark.parametrize("patients", [["a"] * 6, ["a"] * 5 + ["b"]])
def test_shuffling_among_too_few_patients_moves_every_condition(patients):
    belongs_to = shuffle_among(patients, np.random.default_rng(0))
    assert (belongs_to != np.arange(6)).all()


def test_shuffling_within_a_patient_is_said():
    found = evaluator(source=ToySource(num_patients=1), rows=["shuffled"]).run(run_name="x")
    assert any("150 of 150 shuffled conditions come from another patch of the same" in note for note in found.notes)
