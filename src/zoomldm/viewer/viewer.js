"use strict";
// What joins the panes of page.py. Of each slide there are two: what one sees, and the level above, which follows it.
// `at` is where one looks, by slide: the middle (µm, y upwards) and µm a pixel of the screen.
const viewer = (() => {
  const MAGNIFICATION_UM = 10, SAME = 1e-6;
  let given = null, at = [], apart = [0, 0], drawn = [], isCopying = false;

  const slideOf = (pane) => pane >> 1;
  const isParent = (pane) => pane % 2 === 1;
  const isOn = (name) => given.switches[["together", "borders", "parent"].indexOf(name)].active;
  const each = (action) => given.figures.forEach((_, pane) => action(pane));

  function seen({x_range: x, y_range: y, inner_width}) {
    return {x: (x.start + x.end) / 2, y: (y.start + y.end) / 2, um: (x.end - x.start) / inner_width};
  }

  function put(range, middle, span) {
    const [start, end] = [middle - span / 2, middle + span / 2];
    if (Math.abs(range.start - start) + Math.abs(range.end - end) > SAME * span) range.setv({start, end});
  }

  function show(pane) {
    const figure = given.figures[pane], {x, y, um} = at[slideOf(pane)];
    if (!(figure.inner_width > 0)) return;  // it was never shown
    put(figure.x_range, x, um * figure.inner_width);
    put(figure.y_range, y, um * figure.inner_height);
  }

  // How often the level that is drawn has been halved, as Bokeh chooses it (NATIVE and ENLARGED in page.py).
  function halvings(pane) {
    const [, , mpp, finest] = given.sizes[slideOf(pane)];
    const own = Math.floor(Math.log2(at[slideOf(pane)].um / mpp * given.ratio));
    return Math.min(Math.max(own, 0) + (isParent(pane) ? 1 : 0), finest);
  }

  const magnification = (um) => `${Number((MAGNIFICATION_UM / um).toPrecision(4))}x`;

  function describe(pane) {
    const slide = slideOf(pane), {um} = at[slide], level = given.sizes[slide][2] * 2 ** halvings(pane);
    const scale = magnification(Math.abs(um / level - 1) < 0.01 ? level : um);
    const from = scale === magnification(level) ? "" : `, drawn from ${magnification(level)}`;
    return isParent(pane)
      ? `the level above: ${magnification(level)}, enlarged`
      : `${given.names[slide]} at ${scale}${from}, ${Number(um.toPrecision(3))} µm a pixel`;
  }

  // Lines between patches of the level that is drawn, inside the slide and in view.
  function grid(pane) {
    const lines = {x0: [], y0: [], x1: [], y1: []};
    if (!isOn("borders")) return lines;
    const [width, height, mpp] = given.sizes[slideOf(pane)], {x_range: x, y_range: y} = given.figures[pane];
    const side = given.patch_px * mpp * 2 ** halvings(pane);
    const [left, right] = [Math.max(x.start, 0), Math.min(x.end, width * mpp)];
    const [top, bottom] = [Math.max(-y.end, 0), Math.min(-y.start, height * mpp)];
    const add = (x0, y0, x1, y1) => {
      lines.x0.push(x0); lines.y0.push(-y0); lines.x1.push(x1); lines.y1.push(-y1);
    };
    if (left > right || top > bottom) return lines;
    for (let n = Math.ceil(left / side); n * side <= right; n++) add(n * side, top, n * side, bottom);
    for (let n = Math.ceil(top / side); n * side <= bottom; n++) add(left, n * side, right, n * side);
    return lines;
  }

  function refresh() {
    isCopying = true;
    each((pane) => {
      show(pane);
      given.texts[pane].text = describe(pane);
      given.borders[pane].data = grid(pane);
    });
    isCopying = false;
  }

  function isResized(pane) {
    const {inner_width, inner_height} = given.figures[pane], now = `${inner_width} ${inner_height}`;
    const is = drawn[pane] !== now;
    drawn[pane] = now;
    return is;
  }

  // A pane that was moved leads the other slide; one that was resized, or follows, goes back to where one looks.
  function moved(pane, models) {
    if (given === null) return start(models);
    if (isCopying || at.length === 0) return;
    if (!isResized(pane) && !isParent(pane)) {
      const slide = slideOf(pane), other = 1 - slide;
      at[slide] = seen(given.figures[pane]);
      if (isOn("together") && other in at) {
        const sign = slide === 0 ? 1 : -1, {x, y, um} = at[slide];
        at[other] = {x: x + sign * apart[0], y: y + sign * apart[1], um};
      }
    }
    refresh();
  }

  function measureApart() {
    if (at.length > 1) apart = [at[1].x - at[0].x, at[1].y - at[0].y];
  }

  function whole() {
    const um = Math.max(...given.sizes.map(([width, height, mpp], slide) => {
      const {inner_width, inner_height} = given.figures[2 * slide];
      return 1.05 * mpp * Math.max(width / inner_width, height / inner_height);
    }));
    at = given.sizes.map(([width, height, mpp]) => ({x: width * mpp / 2, y: -height * mpp / 2, um}));
    measureApart();
    refresh();
  }

  function magnify(um) {
    at = at.map((place) => ({...place, um}));
    refresh();
  }

  function switched(name) {
    if (name === "together") measureApart();
    if (name === "parent") each((pane) => {
      if (isParent(pane)) given.columns[pane].visible = given.figures[pane].visible = isOn("parent");
    });
    refresh();
  }

  function start(models) {
    given = models;
    setTimeout(() => { each(isResized); whole(); });  // when Bokeh has done with the ranges of all panes
  }

  return {moved, whole, magnify, switched};
})();
