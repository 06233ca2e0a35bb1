"use strict";
// What every page needs: elements that are filled with text, never with markup, and numbers as people write them.
const data = JSON.parse(document.getElementById("data").textContent);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const ofNumber = (number) => `c${number % 8}`;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "style") Object.assign(made.style, value);
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const count = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en-US"));
const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 2 });
const short = (value) => {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (value !== 0 && size < 0.001) return value.toExponential(2).replace("e-", "e−");
  return size >= 10000 ? compact.format(value) : size >= 100 ? String(Math.round(value)) : String(Number(value.toPrecision(4)));
};
const nats = (value) => (value === null || value === undefined ? "–" : value.toFixed(3).replace("-", "−"));
const percent = (value, digits = 1) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)}\u00a0%`);

function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const parts = [
    [Math.floor(whole / 86400), "d"],
    [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"],
    [whole % 60, "s"],
  ];
  const first = Math.max(
    0,
    parts.findIndex(([number]) => number > 0),
  );
  if (!whole) return seconds > 0 ? `${seconds.toFixed(2)} s` : "0 s";
  return parts
    .slice(first, first + 2)
    .filter(([number]) => number)
    .map(([number, unit]) => `${number} ${unit}`)
    .join(" ");
}

function bytes(number) {
  for (const [unit, size] of [
    ["GiB", 2 ** 30],
    ["MiB", 2 ** 20],
    ["KiB", 2 ** 10],
  ])
    if (number >= size) return `${(number / size).toFixed(1)}\u00a0${unit}`;
  return `${number} B`;
}

function moment(seconds) {
  const at = new Date(1000 * seconds),
    two = (number) => String(number).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
}

function table(heading, rows, numbers = []) {
  const mark = (place) => (numbers.includes(place) ? { class: "number" } : {});
  const head = heading.length
    ? element("thead", {}, element("tr", {}, ...heading.map((name, place) => element("th", mark(place), name))))
    : null;
  const body = rows.map((row) =>
    element("tr", {}, ...row.map((cell, place) => (cell instanceof Node ? cell : element("td", mark(place), String(cell))))),
  );
  return element("div", { class: "wide-table" }, element("table", {}, head, element("tbody", {}, ...body)));
}

function section(title, note, ...children) {
  return element(
    "section",
    {},
    element("div", { class: "head" }, element("h2", {}, title), note ? element("p", {}, note) : null),
    ...children,
  );
}
