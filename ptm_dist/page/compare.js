"use strict";
// The page of several runs on the same axes.
const NAMES = { steps: "Steps", tokens: "Tokens", seconds: "Seconds", flops: "FLOPs" };
let axis = data.axis;

function choice() {
  const buttons = data.axes.map((name) => {
    const made = element("button", { type: "button", "aria-pressed": String(name === axis) }, NAMES[name]);
    made.addEventListener("click", () => {
      axis = name;
      fill();
    });
    return made;
  });
  return element("div", { class: "choice" }, ...buttons);
}

function curvePlot(curve) {
  const lines = curve.runs.flatMap((run, number) => [
    { name: data.runs[number].name, x: run.x[axis], y: run.smooth, colour: ofNumber(number), hidden: true },
    {
      name: `${data.runs[number].name}, held-out`,
      x: run.held_out.x[axis],
      y: run.held_out.loss,
      colour: ofNumber(number),
      points: true,
      hidden: true,
      quiet: true,
    },
  ]);
  return plot(`${curve.task}, ${curve.objective}`, lines, { height: data.curves.length > 1 ? 220 : 340, axis });
}

function keys() {
  const runs = data.runs.map((run, number) =>
    element(
      "li",
      {},
      element("i", { style: { borderColor: `var(--${ofNumber(number)})` } }),
      `${run.name} (${run.status.state}, step ${count(run.status.step)})`,
    ),
  );
  return element("ul", { class: "keys" }, ...runs, element("li", {}, element("i", { class: "dots" }), "held-out"));
}

function figures() {
  const rows = data.table.lines.map((line) => {
    const losses = /loss|held-out/.test(line[0]) ? line.slice(1).map(Number.parseFloat) : [];
    const best = losses.length ? Math.min(...losses.filter(Number.isFinite)) : null;
    return line.map((cell, place) =>
      place
        ? element("td", { class: losses.length > 1 && losses[place - 1] === best ? "number best" : "number" }, cell)
        : element("td", { class: "first" }, cell),
    );
  });
  return section(
    "Figures",
    `At the last point of equal ${data.axis} that all runs have reached; training losses are means of 20 steps; ` +
      "held-out losses with their accuracy. The least loss is marked.",
    element("div", { class: "panel" }, table(data.table.heading, rows, data.table.heading.map((_, place) => place).slice(1))),
  );
}

function differences() {
  if (!data.differences.length) return section("Recipes", "They are the same.");
  const rows = data.differences.map((row) => row.map((cell, place) => element("td", place ? {} : { class: "first" }, cell)));
  return section(
    "Recipes",
    "Settings that differ.",
    element("div", { class: "panel" }, table(["setting", ...data.runs.map((run) => run.name)], rows)),
  );
}

function fill() {
  const one = data.curves.length === 1 ? " wide" : "";
  show(
    element(
      "header",
      {},
      element("p", { class: "over" }, "Pretraining runs"),
      element("div", { class: "name" }, element("h1", {}, data.runs.map((run) => run.name).join(" · "))),
      element("p", { class: "about" }, `as of ${moment(data.seen_at)}`),
    ),
    section(
      "Loss",
      "Nats. Lines are training losses, means of a fiftieth of the run; points are held-out.",
      choice(),
      keys(),
      element("div", { class: `grid${one}` }, ...data.curves.map(curvePlot)),
    ),
    figures(),
    differences(),
    element("footer", {}, `Made by ptm compare at ${moment(data.seen_at)}. Everything is in this page; it loads nothing.`),
  );
}

fill();
