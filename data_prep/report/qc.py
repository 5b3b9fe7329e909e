"""What a person looks at: one page with every slide's thumbnail, mask, kept tiles, counts, status and reason."""

import html
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from data_prep.fold.regions import RungRegions
from data_prep.tissue.mask import TissueMask
from zoomldm.files import write_atomically
from zoomldm.ladder import Ladder

MAX_SIDE_PX = 900
EDGE, KEPT, REGION = (0, 140, 50), (30, 80, 230), (240, 110, 0)
PALE = 0.6  # how far the colours of tiles that were not encoded go towards white


def overlay(tissue: TissueMask, kept: np.ndarray, regions: list[RungRegions], ladder: Ladder) -> bytes:
    """Return a JPEG: thumbnail, pale but for the encoded tiles, these and the mask outlined, some lowest regions."""
    mask = tissue.mask
    height, width = mask.shape
    cells = height // kept.shape[0]
    factor = min(1.0, MAX_SIDE_PX / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    pixels = np.array(Image.fromarray(tissue.thumbnail).resize(size, Image.Resampling.BOX))
    small_mask, small_kept = (
        np.asarray(Image.fromarray(area).resize(size, Image.Resampling.NEAREST)) for area in (mask, kept)
    )
    pale = pixels[~small_kept]
    pixels[~small_kept] = (pale + (255 - pale) * PALE).astype(np.uint8)
    pixels[_outline(small_kept)] = KEPT
    pixels[_outline(small_mask)] = EDGE
    picture = Image.fromarray(pixels)
    lowest = next((chosen for chosen in reversed(regions) if len(chosen)), None)
    if lowest is not None:
        draw = ImageDraw.Draw(picture)
        scale = cells * factor
        side = lowest.rung.grid_side * scale
        for y, x in _apart(lowest):
            draw.rectangle([x * scale, y * scale, x * scale + side, y * scale + side], outline=REGION, width=3)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _apart(chosen: RungRegions) -> list[tuple[int, int]]:
    """Return corners of regions that do not overlap, greedily by tissue, so that the picture stays readable."""
    kept: list[tuple[int, int]] = []
    side = chosen.rung.grid_side
    for row in np.argsort(-chosen.tissue, kind="stable").tolist():
        y, x = int(chosen.y[row]), int(chosen.x[row])
        if all(abs(y - b) >= side or abs(x - a) >= side for b, a in kept):
            kept.append((y, x))
    return kept


def _outline(mask: np.ndarray) -> np.ndarray:
    """Return the pixels on both sides of a mask's edge: a line two pixels wide."""
    edge = np.zeros_like(mask)
    for one, other in (np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:]):
        differs = mask[one] != mask[other]
        edge[one] |= differs
        edge[other] |= differs
    return edge


STYLE = """
body{font:14px/1.45 system-ui,sans-serif;margin:2em;color:#222;max-width:1500px}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .7em;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child,td.l,th.l{text-align:left}
.slides{display:grid;grid-template-columns:repeat(auto-fill,minmax(330px,1fr));gap:1em}
figure{margin:0;border:1px solid #ccc;border-radius:6px;padding:.6em;background:#fff}
figure img{max-width:100%;max-height:340px;display:block;margin:auto}
figcaption{font-size:12.5px;margin-top:.4em;overflow-wrap:anywhere}
.failed{border:3px solid #c00;background:#fff3f3}.empty{border:3px solid #e08a00;background:#fff8ec}
b.bad{color:#c00}b.odd{color:#b06a00}small{color:#666}
"""


def write_page(
    root: Path,
    states: list[dict[str, Any]],
    counts: dict[str, dict[str, int]],
    dropped: dict[str, str],
    notes: list[str],
    title: str,
) -> Path:
    """Write ``qc/index.html`` and the overlays it shows; failed and empty slides come first."""
    folder = root / "qc"
    folder.mkdir(parents=True, exist_ok=True)
    rank = {"failed": 0, "empty": 1, "fine": 2}
    cards = sorted(((rank[_kind(s)], s["slide"], s) for s in states), key=lambda card: card[:2])
    labels = sorted({label for split in counts.values() for label in split}, key=lambda v: -float(v[:-1]))
    rows = "".join(
        f"<tr><td>{label}</td>"
        + "".join(f"<td>{counts[split].get(label, 0):,}</td>" for split in counts)
        + f"<td class=l>{html.escape(dropped.get(label, ''))}</td></tr>"
        for label in dict.fromkeys([*labels, *dropped])
    )
    bad = sum(_kind(s) == "failed" for s in states)
    empty = sum(_kind(s) == "empty" for s in states)
    heads = "".join(f"<th>{split}</th>" for split in counts)
    body = f"""<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>
<style>{STYLE}</style>
<h1>{html.escape(title)}</h1>
<p>{len(states)} slides: {len(states) - bad - empty} with samples,
<b class={"bad" if bad else "ok"}>{bad} failed</b>, <b class={"odd" if empty else "ok"}>{empty} without a sample</b>.
Green line: edge of the tissue mask. Blue line: around the 20x tiles that were encoded; all else is pale. Orange:
regions of the lowest magnification that the slide has, without those that overlap them.</p>
{"".join(f"<p><b class=odd>{html.escape(note)}</b></p>" for note in notes)}
<table><tr><th>magnification</th>{heads}<th class=l>note</th></tr>{rows}</table>
<div class=slides>{"".join(_card(root, folder, state) for _, _, state in cards)}</div></html>
"""
    write_atomically(folder / "index.html", body)
    return folder / "index.html"


def _kind(state: dict[str, Any]) -> str:
    if state["status"] != "done":
        return "failed"
    return "fine" if any(state["counts"].values()) else "empty"


def _card(root: Path, folder: Path, state: dict[str, Any]) -> str:
    from zoomldm.data.schema import slide_key

    kind, name = _kind(state), html.escape(state["slide"])
    if kind == "failed":
        return (
            f"<figure class=failed><figcaption><b>{name}</b> <b class=bad>failed</b><br>{html.escape(state['reason'])}"
            "</figcaption></figure>"
        )
    file_name = f"{slide_key(state['slide'])}.jpg"
    source = root / "slides" / slide_key(state["slide"]) / "qc.jpg"
    if source.is_file():
        write_atomically(folder / file_name, source.read_bytes())
    scale = state["scale"]
    counts = " ".join(f"{label} {count}" for label, count in state["counts"].items() if count)
    extra = "".join(
        f" <b class=odd>{text}</b>"
        for text in (
            f"{state['unreadable_tiles']} unreadable tiles" if state["unreadable_tiles"] else "",
            f"{state['regions_skipped']} regions skipped" if state["regions_skipped"] else "",
            f"pen on {state['pen']:.1%}" if state["pen"] else "",
            html.escape(state["reason"]),
        )
        if text
    )
    return (
        f'<figure class={kind}><img loading=lazy src="{html.escape(file_name)}" alt="{name}"><figcaption><b>{name}</b> '
        f"{html.escape(state['patient'])} {state.get('split', '')}{extra}<br>{counts or 'no sample'}<br>"
        f"<small>{state['size_px'][0]}x{state['size_px'][1]} px at {scale['mpp_true']:.4g} mpp ({scale['source']}, "
        f"{scale['method']}); tissue {state['tissue']:.0%}; {state['reader']}</small></figcaption></figure>"
    )
