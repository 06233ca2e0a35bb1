"use strict";
// Plots: one look, one cursor for all that share an axis.
const drawn = new Set();
const charts = new Map();

// The range that shows all smooth curves and points, and all but the outermost hundredth of the raw ones.
function rangeOf(lines, fixed, zero) {
  let low = Infinity,
    high = -Infinity;
  for (const line of lines) {
    const values = line.y.filter((value) => value !== null && value !== undefined).sort((one, other) => one - other);
    if (!values.length) continue;
    const cut = line.raw ? Math.floor(values.length / 100) : 0;
    low = Math.min(low, values[cut]);
    high = Math.max(high, values[values.length - 1 - cut]);
  }
  for (const value of fixed) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (!Number.isFinite(low)) return [0, 1];
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  return [zero ? 0 : low - room, high + room];
}

function nearest(values, index) {
  for (let away = 0; away < 400; away++) {
    for (const place of [index - away, index + away]) {
      const value = values[place];
      if (value !== null && value !== undefined) return value;
    }
  }
  return null;
}

const strokeOf = (line) => () => {
  const base = colour(line.colour);
  return line.raw ? base + "59" : base;
};

// A line of one point or two is hardly one: it is drawn as points.
const isShort = (values) => values.filter((value) => value !== null && value !== undefined).length < 3;

function seriesOf(line) {
  return {
    label: line.name,
    stroke: strokeOf(line),
    spanGaps: !line.raw,
    dash: line.dash,
    width: line.raw || line.area ? 1 : line.points ? 1.5 : 2,
    fill: line.area ? () => colour(line.colour) + "d9" : undefined,
    points: {
      show: (chart, place) => Boolean(line.points) || (!line.raw && isShort(chart.data[place])),
      size: 8,
      width: 2,
      stroke: () => colour(line.colour),
      fill: () => colour(line.points ? "card" : line.colour),
    },
  };
}

// Bands of the stages lie behind the curves; the line of what a guess reaches lies in front.
function drawBands(chart, stages, names) {
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
  stages.forEach((stage, number) => {
    const left = Math.max(bbox.left, chart.valToPos(stage.first, "x", true)),
      right = Math.min(bbox.left + bbox.width, chart.valToPos(stage.end, "x", true));
    if (right <= left) return;
    ctx.fillStyle = colour("band");
    if (stages.length === 1) return;
    if (number % 2) ctx.fillRect(left, bbox.top, right - left, bbox.height);
    ctx.fillStyle = colour("faint");
    if (names && ctx.measureText(stage.name).width + 12 * devicePixelRatio < right - left)
      ctx.fillText(stage.name, left + 6 * devicePixelRatio, bbox.top + 14 * devicePixelRatio);
  });
  ctx.restore();
}

function drawFloor(chart, floor) {
  const { ctx, bbox } = chart,
    y = chart.valToPos(floor.loss, "y", true);
  ctx.save();
  ctx.strokeStyle = colour("ink");
  ctx.globalAlpha = 0.75;
  ctx.lineWidth = 1.2 * devicePixelRatio;
  ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.restore();
}

function keysOf(lines, floor) {
  const keys = lines
    .filter((line) => line.name && !line.hidden)
    .map((line) => {
      const look = line.points ? "dots" : line.area ? "area" : line.dash ? "dash" : "";
      const style = line.area ? { background: `var(--${line.colour})` } : { borderColor: `var(--${line.colour})` };
      return element("li", {}, element("i", { class: look, style }), line.name);
    });
  if (floor)
    keys.push(
      element("li", {}, element("i", { class: "dash", style: { borderColor: "var(--ink)" } }), `${floor.name} ${short(floor.loss)}`),
    );
  return keys.length > 1 || floor ? element("ul", { class: "keys" }, ...keys) : null;
}

// One plot. `lines`: {name, x, y, colour, raw, points, dash, area, hidden, quiet}; hidden ones have no key, quiet ones are not read out,
// and of areas the y are sums from below.
// A plot of the same title and lines is changed in place, so that whoever points or has zoomed goes on.
function plot(title, lines, options = {}) {
  const present = lines.filter((line) => line.x.length),
    kind = present.map((line) => line.name).join("\n");
  const old = charts.get(title);
  if (old && old.kind === kind) {
    Object.assign(old, { lines: present, options });
    old.update();
    return old.figure;
  }
  old?.chart.destroy();
  charts.delete(title);
  const now = element("span", { class: "now" }),
    keys = element("div"),
    box = element("div");
  const figure = element("figure", { class: "plot", "data-plot": title }, element("header", {}, element("h3", {}, title), now), keys, box);
  if (!present.length) {
    box.append(element("p", { class: "empty" }, "nothing was told yet"));
    figure.dataset.empty = "yes";
    return figure;
  }
  const made = { kind, figure, lines: present, options, zoomed: false, range: [0, 1] };
  const joined = () => uPlot.join(made.lines.map((line) => [line.x, line.y]));
  made.update = () => {
    made.range = rangeOf(made.lines, made.options.floor ? [made.options.floor.loss] : [], made.options.zero);
    keys.replaceChildren(keysOf(made.lines, made.options.floor) ?? "");
    now.textContent = made.options.note ?? "";
    made.chart?.setData(joined(), !made.zoomed);
  };
  made.update();
  made.chart = new uPlot(settingOf(made, now), joined(), box);
  charts.set(title, made);
  new ResizeObserver(() => {
    const width = Math.floor(box.clientWidth);
    if (width > 0 && width !== made.chart.width) made.chart.setSize({ width, height: made.chart.height });
  }).observe(box);
  return figure;
}

function xRange(made, low, high) {
  const [first, last] = made.zoomed ? [low, high] : (made.options.extent ?? [low, high]);
  return first === last ? [first - 1, last + 1] : [first, last];
}

function readout(made, chart) {
  const index = chart.cursor.idx;
  if (index === null || index === undefined) return made.options.note ?? "";
  const told = made.lines
    .map((line, place) => [line, nearest(chart.data[place + 1], index)])
    .filter(([line, value]) => value !== null && !line.raw && !line.quiet);
  const parts = told
    .slice(0, 8)
    .map(([line, value], place) => (line.area ? short(value - (place ? told[place - 1][1] : 0)) : short(value)));
  return `${made.options.axis ?? "step"} ${short(chart.data[0][index])}: ${parts.join(" · ")}${made.options.unit ?? ""}`;
}

function settingOf(made, now) {
  const look = {
    stroke: () => colour("soft"),
    grid: { stroke: () => colour("line"), width: 1 },
    ticks: { show: false },
    font: "11px system-ui, sans-serif",
  };
  const area = (line, place) => (line.area && place ? { series: [place + 1, place], fill: () => colour(line.colour) + "d9" } : null);
  return {
    width: 320,
    height: made.options.height ?? 190,
    padding: [8, 16, 0, 0],
    legend: { show: false },
    cursor: { y: false, sync: { key: made.options.axis ?? "step" }, points: { size: 6 }, drag: { x: true, y: false } },
    scales: { x: { time: false, range: (_, low, high) => xRange(made, low, high) }, y: { range: () => made.range } },
    axes: [
      { ...look, values: (_, splits) => splits.map((value) => (value === null ? "" : compact.format(value))), size: 26, space: 70 },
      { ...look, values: (_, splits) => splits.map(short), size: 52, space: 34 },
    ],
    series: [{}, ...made.lines.map(seriesOf)],
    bands: made.lines.map(area).filter(Boolean),
    hooks: {
      drawClear: [(chart) => drawBands(chart, made.options.stages ?? [], made.options.names)],
      draw: [
        (chart) => {
          if (made.options.floor) drawFloor(chart, made.options.floor);
          drawn.add(made.figure);
        },
      ],
      setSelect: [
        (chart) => {
          made.zoomed ||= chart.select.width > 0;
        },
      ],
      setCursor: [
        (chart) => {
          now.textContent = readout(made, chart);
        },
      ],
      ready: [
        (chart) =>
          chart.over.addEventListener("dblclick", () => {
            made.zoomed = false;
          }),
      ],
    },
  };
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach(({ chart }) => chart.redraw()));

// Shows the page and says, for whoever tests it, when all of its plots are drawn.
function show(...children) {
  const at = scrollY;
  document.getElementById("page").replaceChildren(...children);
  scrollTo(0, at);
  const look = () => {
    const all = [...document.querySelectorAll(".plot:not([data-empty])")];
    if (all.every((figure) => drawn.has(figure))) document.documentElement.dataset.drawn = String(all.length);
    else setTimeout(look, 20);
  };
  look();
}
