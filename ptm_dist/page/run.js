"use strict";
// The page of one run.
const smooth = (curve, name, colourName, more = {}) => ({
  name,
  x: curve.steps,
  y: curve.smooth ?? curve.raw,
  colour: colourName,
  ...more,
});
const raw = (curve, colourName) => ({ name: "", x: curve.steps, y: curve.raw, colour: colourName, raw: true });

const common = (run) => ({ stages: run.stages, extent: [run.first_step, Math.max(run.status.step, run.first_step + 1)] });

function lossPlot(curve, run, title, height) {
  const name = ofNumber(run.tasks.indexOf(curve.task)),
    held = curve.held_out;
  const lines = [
    raw(curve, name),
    smooth(curve, "training", name),
    { name: "held-out", x: held.steps, y: held.loss, colour: "ink", points: true },
  ];
  return plot(title, lines, { ...common(run), floor: curve.floor, names: height > 200, height });
}

function losses(run) {
  if (run.losses.length === 1)
    return section(
      "Loss",
      "Nats. The thin line is each step, the thick one the mean of a fiftieth of the run.",
      element("div", { class: "grid wide" }, lossPlot(run.losses[0], run, `${run.losses[0].task}, ${run.losses[0].objective}`, 320)),
    );
  const together = plot(
    "all tasks, training",
    run.overview.map((curve) => smooth(curve, curve.task, ofNumber(run.tasks.indexOf(curve.task)))),
    { ...common(run), names: true, height: 280 },
  );
  return section(
    "Loss",
    "Nats. Above, the training loss of each task, its objectives added up with their weights; " +
      "below, each objective beside its held-out loss and what a guess without context reaches.",
    element("div", { class: "grid wide" }, together),
    element("div", { class: "grid" }, ...run.losses.map((curve) => lossPlot(curve, run, `${curve.task}, ${curve.objective}`, 190))),
  );
}

// What classifiers on the states of the model reach; dashed, what always saying the most frequent class would.
function probes(run) {
  if (!run.probes.length) return null;
  const lines = run.probes.flatMap((curve, number) => [
    { name: curve.probe, x: curve.steps, y: curve.accuracy, colour: ofNumber(number), points: true },
    {
      name: `${curve.probe}, most frequent class`,
      x: curve.steps,
      y: curve.baseline_accuracy,
      colour: ofNumber(number),
      dash: [5, 4],
      quiet: true,
    },
  ]);
  return section(
    "Probes",
    "Held-out accuracy of small classifiers that are fitted to the states of the model as it is; the model learns nothing of them.",
    element("div", { class: "grid wide" }, plot("accuracy of probes", lines, { ...common(run), names: true, height: 240 })),
  );
}

function course(run) {
  const options = { ...common(run), height: 200 };
  const plots = [
    plot("tokens a second", [raw(run.rate, "c5"), smooth(run.rate, "", "c5")], { ...options, zero: true }),
    plot("learning rate", [smooth(run.learning_rate, "", "c0")], { ...options, zero: true }),
    plot("gradient norm", [raw(run.gradient_norm, "c3"), smooth(run.gradient_norm, "", "c3")], options),
    phases(run, options),
  ];
  if (run.ranks.names.length) plots.push(ranks(run, options));
  return section(
    "Course",
    "Every plot follows the same steps: point at one to read all, drag to zoom, double-click to go back.",
    element("div", { class: "grid half" }, ...plots),
  );
}

const PHASE_COLOURS = { forward: "c0", backward: "c3", optimizer: "c2", communication: "c1", data: "data", compute: "c0", rest: "other" };

function phases(run, options) {
  const { steps, names, seconds } = run.phases,
    sums = steps.map(() => 0);
  const lines = names.map((name, number) => ({
    name,
    x: steps,
    y: seconds[number].map((value, place) => (sums[place] += value ?? 0)),
    colour: PHASE_COLOURS[name] ?? ofNumber(number),
    area: true,
  }));
  return plot("seconds a step, by phase", lines, { ...options, zero: true, unit: " s" });
}

function ranks(run, options) {
  const lines = run.ranks.names.map((name, number) => ({
    name,
    x: run.ranks.steps,
    y: run.ranks.seconds[number],
    colour: ofNumber(number),
  }));
  return plot("busy seconds a step, by rank", lines, {
    ...options,
    unit: " s",
    note: run.ranks.slowest ? `most: ${run.ranks.slowest}` : "",
  });
}

function fill(run) {
  show(
    heading(run),
    schedule(run) ?? "",
    tiles(run),
    losses(run),
    heldOut(run) ?? "",
    probes(run) ?? "",
    course(run),
    wallTime(run) ?? "",
    attempts(run) ?? "",
    section("Figures", "", element("div", { class: "two" }, pairs("Run", run.figures), pairs("Environment", run.environment))),
    recipe(run),
    element("footer", {}, `Made by ptm report at ${moment(run.status.seen_at)}. Everything is in this page; it loads nothing.`),
  );
}

// While a server stands behind the page, it is asked for news; the plots change in place, the page is not loaded again.
async function follow(seen) {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 3000));
    try {
      const answer = await fetch(`data.json?seen=${seen}`);
      if (answer.status !== 200) continue;
      const news = await answer.json();
      seen = news.number;
      fill(news.data);
      document.documentElement.dataset.news = String(seen);
    } catch {
      /* The server has gone, or is busy; what is shown stays. */
    }
  }
}

fill(data.data ?? data);
if (document.body.dataset.live === "yes") follow(data.number);
