"use strict";
// What the page of a run tells in words, numbers and bars.
function tile(name, value, note) {
  return element(
    "div",
    { class: "tile" },
    element("dt", {}, name),
    element("dd", { title: value }, value),
    element("small", {}, note ?? "\u00a0"),
  );
}

function tiles(run) {
  const { status } = run,
    left = status.seconds_left,
    found = [];
  const total =
    status.total_steps === null
      ? ""
      : `of ${count(status.total_steps)}, ${percent(status.step / status.total_steps, status.step < status.total_steps ? 1 : 0)}`;
  found.push(tile("Step", count(status.step), total));
  if (left !== null) found.push(tile("Time left", span(left), `until ${moment(status.seen_at + left)}`));
  const first = status.held_out[0];
  if (first) {
    const floor = first.unigram_entropy ?? first.baseline_loss,
      name = first.unigram_entropy === null ? "labels alone" : "unigrams";
    found.push(
      tile(
        `Held-out, ${first.task}`,
        short(first.loss),
        floor === null ? `${percent(first.accuracy)} right` : `${name} ${short(floor)}, ${percent(first.accuracy)} right`,
      ),
    );
  } else if (status.loss !== null) found.push(tile("Training loss", short(status.loss), "nats"));
  if (status.tokens_per_second !== null)
    found.push(
      tile(
        "Tokens a second",
        count(status.tokens_per_second),
        `${count(status.tokens_per_second_average)} on average, ${compact.format(status.tokens)} in all`,
      ),
    );
  found.push(
    tile(
      "Workers",
      status.workers === null ? "–" : `${status.workers}`,
      `of ${status.wanted_workers}${status.nodes.length ? ` on ${status.nodes.length} node${status.nodes.length > 1 ? "s" : ""}` : ""}`,
    ),
  );
  const saved = status.checkpoint;
  found.push(
    saved
      ? tile(
          "Checkpoint of step",
          count(saved.step),
          [
            status.state === "finished" ? moment(saved.saved_at) : `${span(saved.age_seconds)} old`,
            saved.bytes === null ? null : bytes(saved.bytes),
          ]
            .filter(Boolean)
            .join(", "),
        )
      : tile("Checkpoint", "none yet"),
  );
  if (status.goodput !== null) found.push(tile("Goodput", percent(status.goodput), "of the wall time trained the model"));
  found.push(tile("Restarts", count(status.restarts), status.lost_steps ? `${count(status.lost_steps)} steps done again` : "no step lost"));
  return element("dl", { class: "tiles" }, ...found);
}

function heading(run) {
  const { status } = run;
  const state = status.state === "failed" ? `failed: ${status.cause}` : status.state;
  const fresh = document.body.dataset.live === "yes" ? "this page keeps up with the run" : `as of ${moment(status.seen_at)}`;
  const about = [status.run, status.attempt === null ? null : `attempt ${status.attempt}`, run.paper || null, fresh]
    .filter(Boolean)
    .join(" · ");
  return element(
    "header",
    {},
    element("p", { class: "over" }, "Pretraining run"),
    element("div", { class: "name" }, element("h1", {}, status.name), element("span", { class: `state ${status.state}` }, state)),
    element("p", { class: "about" }, about),
    status.message && ["failed", "stopped", "restarting"].includes(status.state)
      ? element("p", { class: "message" }, status.message)
      : null,
  );
}

// The schedule: a band a stage, as wide as its steps, cut by its tasks; what is not done yet lies under a veil.
function schedule(run) {
  const { stages, tasks, status } = run;
  if (!stages.length) return null;
  const strip = stages.map((stage) =>
    element(
      "div",
      {
        class: "stage",
        title: `${stage.name}: steps ${count(stage.first)} to ${count(stage.end)}`,
        style: { flexGrow: stage.end - stage.first },
      },
      ...Object.entries(stage.steps)
        .sort(([one], [other]) => tasks.indexOf(one) - tasks.indexOf(other))
        .map(([task, steps]) =>
          element("span", {
            title: `${task}: ${count(steps)} steps`,
            style: { flexGrow: steps, background: `var(--${ofNumber(tasks.indexOf(task))})` },
          }),
        ),
    ),
  );
  const done = status.step / stages[stages.length - 1].end;
  const veil = done < 1 ? element("div", { class: "veil", style: { left: `${100 * done}%` } }) : null;
  const names = stages.map((stage) =>
    element(
      "div",
      { style: { flexGrow: stage.end - stage.first }, title: stage.name },
      ...(stages.length > 1 ? [stage.name, element("br"), count(stage.end - stage.first)] : [`${count(stage.end)} steps`]),
    ),
  );
  const keys = tasks.map((task, number) =>
    element("li", {}, element("i", { class: "area", style: { background: `var(--${ofNumber(number)})` } }), task),
  );
  return element(
    "div",
    { class: "schedule" },
    element("div", { class: stages.length > 1 || tasks.length > 1 ? "strip" : "strip thin" }, ...strip, veil),
    element("div", { class: "stages" }, ...names.slice(0, 24)),
    tasks.length > 1 ? element("ul", { class: "keys" }, ...keys) : null,
  );
}

const ASKED = ["stopped", "preempted", "resized"];

function wallTime(run) {
  const seconds = run.status.goodput_seconds,
    wall = Object.values(seconds).reduce((sum, value) => sum + value, 0);
  if (!run.attempts.length || wall <= 0) return null;
  const classes = Object.entries(seconds).filter(([, value]) => value > 0);
  const bar = classes.map(([name, value]) =>
    element("span", {
      "data-class": name,
      title: `${name}: ${span(value)}`,
      style: { flexGrow: value / wall, background: `var(--${name})` },
    }),
  );
  const list = classes.map(([name, value]) =>
    element(
      "li",
      {},
      element("i", { style: { background: `var(--${name})` } }),
      name,
      element("b", {}, percent(value / wall)),
      element("small", {}, span(value)),
    ),
  );
  const start = run.attempts[0].started_at,
    length = Math.max(...run.attempts.map((attempt) => attempt.ended_at ?? run.status.seen_at)) - start || 1;
  const at = (time) => `${(100 * (time - start)) / length}%`,
    marks = [];
  for (const attempt of run.attempts) {
    const end = attempt.ended_at ?? run.status.seen_at,
      wide = (end - attempt.started_at) / length;
    const told = `attempt ${attempt.attempt}: steps ${count(attempt.first_step)} to ${count(attempt.last_step)}, ${attempt.cause}`;
    marks.push(
      element(
        "div",
        { class: wide < 0.12 ? "ran narrow" : "ran", title: told, style: { left: at(attempt.started_at), width: `${100 * wide}%` } },
        `${attempt.attempt}`,
      ),
    );
    if (!["finished", "running"].includes(attempt.cause))
      marks.push(element("div", { class: ASKED.includes(attempt.cause) ? "end asked" : "end", title: told, style: { left: at(end) } }));
  }
  const hours = element(
    "div",
    { class: "hours" },
    element("span", {}, moment(start)),
    element("span", {}, `${span(length)}, ${run.attempts.length} attempt${run.attempts.length > 1 ? "s" : ""}`),
    element("span", {}, moment(start + length)),
  );
  return section(
    "Wall time",
    "Where the time since the first attempt went, and when attempts ran. " +
      "A mark is an end before the end of the run: yellow if it was asked for, red if not.",
    element("div", { class: "panel" }, element("div", { class: "share" }, ...bar), element("ul", { class: "classes" }, ...list)),
    element("div", { class: "panel" }, element("div", { class: "clock" }, ...marks), hours),
  );
}

function attempts(run) {
  if (!run.attempts.length) return null;
  const rows = run.attempts.map((attempt) => [
    count(attempt.attempt),
    element("td", { class: "short" }, moment(attempt.started_at)),
    element("td", { class: "short" }, span(attempt.seconds)),
    element("td", { class: "short" }, `${attempt.workers} of ${attempt.wanted_workers}`),
    element("td", { class: "long" }, attempt.nodes.join(", ") || "–"),
    element("td", { class: "short" }, `${count(attempt.first_step)} to ${count(attempt.last_step)}`),
    element("td", { class: "long", title: attempt.message }, attempt.exit_code ? `${attempt.cause} (${attempt.exit_code})` : attempt.cause),
    count(attempt.lost_steps),
    attempt.compute_hours.toFixed(2),
  ]);
  return section(
    "Attempts",
    "",
    element(
      "div",
      { class: "panel" },
      table(["attempt", "started", "for", "workers", "nodes", "steps", "ended", "steps lost", "compute hours"], rows, [7, 8]),
    ),
  );
}

function pairs(title, rows) {
  return element(
    "div",
    { class: "panel" },
    element("h3", {}, title),
    table(
      [],
      rows.map(([name, value]) => [element("td", { class: "first" }, name), value]),
    ),
  );
}

const unfolded = new Set();

function folded(title, text) {
  const made = element("details", unfolded.has(title) ? { open: "" } : {}, element("summary", {}, title), element("pre", {}, text));
  made.addEventListener("toggle", () => {
    unfolded[made.open ? "add" : "delete"](title);
  });
  return made;
}

function recipe(run) {
  return section(
    "Recipe",
    `Digest ${run.recipe.digest.slice(0, 16)}.`,
    element(
      "div",
      { class: "panel" },
      folded("What differs from the defaults", run.recipe.changed),
      folded("The whole recipe, every default filled in", run.recipe.whole),
    ),
  );
}

function heldOut(run) {
  if (!run.held_out.length) return null;
  const several = run.held_out.some((row) => row.source);
  const rows = run.held_out.map((row) => {
    const floor = row.unigram_entropy ?? row.baseline_loss,
      gain = floor === null || row.loss === null ? null : floor - row.loss;
    const cells = [
      row.source ? "" : row.task,
      row.source ? "" : row.objective,
      nats(row.loss),
      percent(row.accuracy),
      nats(floor),
      row.baseline_accuracy === null ? "–" : percent(row.baseline_accuracy),
      nats(gain),
      count(row.step),
    ];
    return several ? [...cells.slice(0, 2), row.source || "all", ...cells.slice(2)] : cells;
  });
  const names = [
    "task",
    "objective",
    ...(several ? ["source"] : []),
    "loss",
    "accuracy",
    "without context",
    "labels alone",
    "gain",
    "at step",
  ];
  const note =
    "On text that no step has seen, in nats. " +
    "Without context: the entropy of the tokens, or of the labels, which a guess reaches that reads nothing.";
  return section(
    "Held-out",
    note,
    element("div", { class: "panel" }, table(names, rows, names.map((_, place) => place).slice(several ? 3 : 2))),
  );
}
