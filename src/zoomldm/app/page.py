"""The page itself, in Gradio: what is chosen, what comes of it, and messages where it cannot be.

Legend: k patches, p patch side (px).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image, ImageDraw

from zoomldm.app.answers import Answer
from zoomldm.app.requests import Request
from zoomldm.app.session import Session
from zoomldm.errors import UserError
from zoomldm.ladder import label
from zoomldm.sampling.pictures import Column, enlarge, panel

SHOWN_PX, ROW_PX = 288, 96
TITLES = {
    "generated": "nothing (drawn by the EDM)",
    "oracle": "a sample of the data set",
    "image": "a picture of mine",
    "slide": "a place on a slide",
}
NO_SLIDES = 'No slide is at hand. Start the page with some: `make app SLIDES="a.svs b.tif"`, or `slides=[a.svs,b.tif]`.'
MARK = (214, 39, 40)
STYLE = ".gradio-container img {image-rendering: pixelated}"


class Page:
    """Builds the blocks; its methods are what buttons and clicks call.

    Args:
        session: answers the requests.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.inputs: dict[str, Any] = {}

    def build(self) -> gr.Blocks:
        """Return the page."""
        with gr.Blocks(title="ZoomLDM", analytics_enabled=False, delete_cache=(600, 3600)) as blocks:
            gr.Markdown(
                f"## ZoomLDM\n{self.session.models.run.name}: patches at any magnification, from what you choose."
            )
            with gr.Row():
                with gr.Column(scale=2, min_width=320):
                    self._choices()
                    self._settings()
                    make = gr.Button("Make patches", variant="primary", elem_id="make")
                    make_row = gr.Button("All magnifications", elem_id="make-row")
                with gr.Column(scale=3, min_width=480):
                    with gr.Row():
                        reference = _picture("reference", height=SHOWN_PX + 16)
                        result = _gallery("synthetic", height=SHOWN_PX + 16)
                    said = gr.Markdown(elem_id="said")
                    files = gr.File(
                        label="download: PNGs with their settings",
                        file_count="multiple",
                        elem_id="files",
                        height=200,
                        interactive=False,
                    )
            row = _picture("all magnifications, each below its reference where there is one", name="row")
            inputs = [*self.inputs.values()]
            shared = {"inputs": inputs, "concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
            make.click(self._answered(self.sample), outputs=[reference, result, files, said], **shared)
            make_row.click(self._answered(self.row), outputs=[row, files, said], **shared)
        return blocks

    def _choices(self) -> None:
        """Lay out what the condition is of, and show the fields of the chosen source alone."""
        session = self.session
        sources = [(TITLES.get(name, name), name) for name in session.offer.sources]
        first = "oracle" if "oracle" in session.offer.sources else sources[0][1]
        magnifications = [(label(one), one) for one in session.ladder.magnifications]
        magnification = gr.Dropdown(
            magnifications, value=magnifications[min(2, len(magnifications) - 1)][1], label="magnification",
            elem_id="magnification",
        )  # fmt: skip
        source = gr.Radio(sources, value=first, label="made of", elem_id="source")
        sample = gr.Number(0, label="number of the sample", precision=0, elem_id="sample", visible=first == "oracle")
        with gr.Column(visible=False) as of_picture:
            picture = gr.File(label="picture: PNG or JPEG, 8-bit RGB", elem_id="picture", height=120)
            mpp = gr.Number(session.ladder.base_mpp, label="its scale, micrometres a pixel", elem_id="mpp")
        with gr.Column(visible=False) as of_slide:
            if not session.offer.slides:
                gr.Markdown(NO_SLIDES, elem_id="no-slides")
            slide = gr.Dropdown([*session.offer.slides], value=None, label="slide", elem_id="slide")
            overview = _picture("click on a place", name="overview")
            place = gr.State(None)
        source.change(
            lambda chosen: [gr.update(visible=chosen == name) for name in ("oracle", "image", "slide")],
            source, [sample, of_picture, of_slide], api_visibility="private",
        )  # fmt: skip
        slide.change(self._answered(self.show_slide), slide, [overview, place], api_visibility="private")
        overview.select(self._answered(self.click), slide, [overview, place], api_visibility="private")
        self.inputs |= {
            "magnification": magnification, "source": source, "sample": sample, "picture": picture, "mpp": mpp,
            "slide": slide, "place": place,
        }  # fmt: skip

    def _settings(self) -> None:
        """Lay out how patches are sampled."""
        limits, default = self.session.limits, self.session.default
        solvers = [*self.session.offer.solvers]
        with gr.Row():
            is_one = not isinstance(default.guidance_scale, tuple)
            self.inputs["guidance_scale"] = gr.Number(
                default.guidance_scale if is_one else None,
                label=f"guidance, ≤ {limits.guidance_scale:g}" + ("" if is_one else "; none: by magnification"),
                elem_id="guidance",
                min_width=90,
            )
            self.inputs["steps"] = gr.Number(
                min(default.steps, limits.steps), label=f"steps, ≤ {limits.steps}", precision=0, elem_id="steps",
                min_width=90,
            )  # fmt: skip
        with gr.Row():
            self.inputs["solver"] = gr.Dropdown(
                solvers, value=self.session.default_solver, label="solver", elem_id="solver", min_width=90
            )
            self.inputs["seed"] = gr.Number(0, label="seed", precision=0, elem_id="seed", min_width=90)
            self.inputs["n"] = gr.Number(4, label=f"patches, ≤ {limits.n}", precision=0, elem_id="n", min_width=90)

    def sample(self, *values: Any) -> tuple[Any, ...]:
        """Return reference, synthetic patches, their files and a line about them."""
        answer = self.session.sample(self._request(values))
        reference = None if answer.reference is None else enlarge(answer.reference, SHOWN_PX)
        side_px = SHOWN_PX if len(answer.images) == 1 else SHOWN_PX // 2
        return reference, [enlarge(one, side_px) for one in answer.images], _paths([answer]), _line(answer)

    def row(self, *values: Any) -> tuple[Any, ...]:
        """Return a picture of all magnifications, the patches' files and a line about what is left out."""
        row = self.session.all_magnifications(self._request(values))
        columns = []
        for answer in row.answers:
            patches = [answer.reference] if answer.reference is not None else []
            has_references = any(one.reference is not None for one in row.answers)
            above = patches or ([None] if has_references else [])
            columns.append(Column(answer.rung.label, [*above, answer.images[0]]))
        said = "; ".join(f"{name}: {reason}" for name, reason in row.left_out.items())
        return panel(columns, side_px=ROW_PX), _paths(row.answers), f"left out: {said}" if said else ""

    def show_slide(self, slide: str | None) -> tuple[Any, None]:
        """Return a slide's overview, no place chosen yet."""
        return (None, None) if not slide else (Image.fromarray(self.session.overview(slide).image), None)

    def click(self, slide: str | None, event: gr.SelectData) -> tuple[Any, Any]:
        """Return the overview with a mark, and the level-0 pixel that was clicked on."""
        if not slide:
            return None, None
        overview, (x, y) = self.session.overview(slide), event.index
        return _marked(overview.image, x, y), overview.to_px0(x, y)

    def _request(self, values: Sequence[Any]) -> Request:
        chosen = dict(zip(self.inputs, values, strict=True))
        x_px0, y_px0 = chosen.pop("place") or (None, None)
        picture = chosen.pop("picture")
        return Request(picture=Path(picture) if picture else None, x_px0=x_px0, y_px0=y_px0, **chosen)

    def _answered(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose mistakes of the user become messages on the page."""

        @wraps(function)
        def answered(*values: Any, **more: Any) -> Any:
            try:
                return function(*values, **more)
            except UserError as error:
                raise gr.Error(str(error), duration=None, print_exception=False) from error

        return answered


def _titled(title: str) -> None:
    gr.Markdown(f"**{title}**")


def _gallery(title: str, *, height: int) -> gr.Gallery:
    with gr.Column(min_width=200):
        _titled(title)
        return gr.Gallery(
            show_label=False,
            elem_id="result",
            columns=2,
            height=height,
            format="png",
            object_fit="contain",
            interactive=False,
            buttons=["fullscreen"],
        )


def _picture(title: str, *, name: str | None = None, height: int | None = None) -> gr.Image:
    with gr.Column(min_width=200):
        _titled(title)
        return gr.Image(
            show_label=False,
            elem_id=name or title,
            height=height,
            interactive=False,
            format="png",
            buttons=["fullscreen"],
        )


def _marked(image: np.ndarray, x: int, y: int) -> Image.Image:
    marked = Image.fromarray(image)
    for radius, width, colour in ((12, 7, "white"), (10, 3, MARK)):
        ImageDraw.Draw(marked).ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour, width=width)
    return marked


def _paths(answers: Sequence[Answer]) -> list[str]:
    return [str(path) for answer in answers for path in answer.files]


def _line(answer: Answer) -> str:
    """Say where the condition is from."""
    found = [one for one in answer.facts["conditions"] if "slide" in one]
    where = f" of {found[0]['slide']} at x {found[0]['x_px0']}, y {found[0]['y_px0']} (level-0 pixels)" if found else ""
    return f"{answer.rung.label}, {answer.rung.mpp:g} µm a pixel{where}"
