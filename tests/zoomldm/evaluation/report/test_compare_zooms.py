"""Zooming EDMs side by side: seeds are averaged, what exceeds their errors is marked, what differs is named."""

import pytest

from zoomldm.errors import UserError
from zoomldm.evaluation.report.compare_zooms import JudgedZoom, compare_zooms
from zoomldm.evaluation.zoom import KINDS, ZoomErrors


def zoom(form, seed, child, *, labels=("20x", "10x"), fault=None, **facts):
    errors = ZoomErrors(
        by_rung={label: dict.fromkeys(KINDS, 0.5) | {"child": child * 2**place} for place, label in enumerate(labels)},
        drift={"10x": [child], "5x": [child, 2 * child]},
        num=48,
    )
    ending = f"-seed={seed}" if seed else ""
    config = {"seed": seed, "model": {"form": form}, "zoomldm": {"run": f"zoom{ending}"}, "fabric": seed}
    return JudgedZoom(name=f"{form}{ending}", errors=errors, config=config, facts={"steps": "300"} | facts, fault=fault)


def seeds(form, *children, **of):
    return [zoom(form, seed, child, **of) for seed, child in enumerate(children)]


def lines(page):
    return page.to_markdown().splitlines()


def row(page, heading, name):
    found = lines(page)
    here = found[found.index(f"## {heading}") :]
    return [cell.strip() for cell in next(one for one in here if one.startswith(f"| {name} ")).split("|")[2:-1]]


CHILD, DRIFT = "Tokens of quarters: child", "Drift: after so many levels below 5x"


def test_seeds_become_one_row_with_their_error_and_what_exceeds_it_is_marked():
    page = compare_zooms([*seeds("aligned", 0.1, 0.2, 0.3), *seeds("context", 1.1, 1.2, 1.3)], title="zooms")
    assert row(page, CHILD, "aligned") == ["0.20 ± 0.0577", "0.40 ± 0.12", "0.30 ± 0.0866"]
    assert row(page, CHILD, "aligned - context") == ["-1.00 ± 0.0816 *", "-2.00 ± 0.16 *", "-1.50 ± 0.12 *"]
    assert row(page, "Tokens of quarters: plain", "aligned - context") == ["0 ± 0"] * 3
    assert row(page, DRIFT, "aligned") == ["0.20 ± 0.0577", "0.40 ± 0.12"]
    assert "averaged over 3 seeds: context, context-seed=1, context-seed=2" in page.to_markdown()
    assert "mixed" not in page.to_markdown()


def test_a_single_seed_has_no_error_and_no_mark():
    page = compare_zooms([zoom("aligned", 0, 0.1), zoom("context", 0, 0.4)], title="zooms")
    assert row(page, CHILD, "aligned - context")[0] == "-0.30"


def test_other_steps_and_changed_parents_are_not_averaged():
    page = compare_zooms([*seeds("aligned", 0.1, 0.2), zoom("aligned", 2, 0.3, steps="1500")], title="zooms")
    assert row(page, CHILD, "aligned-seed=2")[0] == "0.30"
    assert "mixed steps: 300 (aligned, aligned-seed=1); 1500 (aligned-seed=2)" in lines(page)
    page = compare_zooms([*seeds("aligned", 0.1, 0.2), zoom("aligned", 2, 0.3, fault="is gone")], title="zooms")
    assert row(page, CHILD, "aligned-seed=2")[0] == "0.30"
    assert "aligned-seed=2: is gone" in lines(page)


def test_different_magnifications_are_not_set_side_by_side():
    with pytest.raises(UserError, match=r"b: 20x\); judge them"):
        compare_zooms([zoom("a", 0, 0.1), zoom("b", 0, 0.1, labels=("20x",))], title="zooms")
