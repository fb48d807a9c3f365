"use strict";
// The list of videos, their timelines and players. All text comes from the JSON in the page and is set as text.
const data = JSON.parse(document.getElementById("data").textContent);
const PAGE = 100; // videos that are added to the list at once
const AT_ONCE = 8; // thumbnails of the list that a page loads before it says that it has: a still picture or a print shows them

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "style") Object.assign(element.style, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function drawing(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

const address = (path) => path.split("/").map(encodeURIComponent).join("/");
const shown = (value) => (value === null ? "-" : Number.isInteger(value) ? String(value) : value.toFixed(3));
const place = (value, unit) => (unit === "s" ? `${value.toFixed(1)} s` : `${unit} ${Math.round(value)}`);
const colourOf = (video, label) => video.colours[label] || "#7f7f7f";

// Enlargement

const dialog = make("dialog", { "aria-label": "enlarged" });
document.body.append(dialog);
let putBack = null;
dialog.addEventListener("close", () => { if (putBack) putBack(); putBack = null; dialog.replaceChildren(); });
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

function enlarge(content, back) {
  putBack = back || null;
  dialog.replaceChildren(make("p", {}, make("button", { onclick: () => dialog.close() }, "Close (Esc)")), content);
  dialog.showModal();
}

for (const button of document.querySelectorAll("figure > button")) {
  button.addEventListener("click", () => {
    const picture = button.querySelector("img");
    enlarge(make("img", { src: picture.src, alt: picture.alt }));
  });
}

// Pictures of a video: each kind is one sheet of tiles, which is moved behind a window of one tile

function stage(strip, layers, caption, loading = "lazy") {
  const sheets = layers.map((layer) =>
    make("img", { src: address(layer), alt: "", loading, decoding: loading === "eager" ? "sync" : "async",
      style: { width: `${100 * strip.columns}%`, height: `${100 * strip.rows}%` } }));
  const window = make("div", { class: "stage", role: "img", "aria-label": caption,
    style: { aspectRatio: `${strip.width} / ${strip.height}` } }, ...sheets);
  window.show = (index) => {
    for (const sheet of sheets) {
      sheet.style.left = `${-100 * (index % strip.columns)}%`;
      sheet.style.top = `${-100 * Math.floor(index / strip.columns)}%`;
    }
  };
  window.show(0);
  return window;
}

function notesAt(video, at) {
  const slack = video.strip && video.strip.places.length > 1 ? (video.strip.places[1] - video.strip.places[0]) / 4 : 0;
  const notes = [];
  for (const lane of video.lanes) {
    if (lane.marks) {
      const mark = lane.marks.find((one) => Math.abs(one[0] - at) <= Math.min(slack, 0.5));
      if (mark) notes.push(`${lane.caption}: ${mark[2]}`);
    } else if (lane.spans) {
      const here = [...new Set(lane.spans.filter((one) => one[0] <= at && at < one[1]).map((one) => one[2]))];
      if (here.length) notes.push(`${lane.caption}: ${here.join(", ")}`);
    }
  }
  return notes.join(" · ");
}

function player(video, moved) {
  const strip = video.strip, kinds = Object.keys(strip.layers);
  const stages = make("div", { class: "stages only", style: { "--shape": strip.width / strip.height } });
  stages.style.setProperty("--shape", strip.width / strip.height);
  const now = make("p", { class: "now", "aria-live": "polite" });
  const slider = make("input", { type: "range", min: 0, max: strip.places.length - 1, value: 0, step: 1,
    "aria-label": `frame of ${video.name}` });
  const play = make("button", { "aria-label": "play" }, "▶");
  const where = make("span", { class: "where" });
  const choice = make("select", { "aria-label": "mask shown" },
    ...kinds.map((kind) => make("option", { value: kind }, kind)),
    make("option", { value: "" }, "no mask"),
    kinds.length ? make("option", { value: "*" }, "side by side") : null);
  const opacity = make("input", { type: "range", min: 0, max: 1, step: 0.05, value: 0.8, "aria-label": "opacity of the mask" });
  let windows = [], timer = null;

  const fade = () => windows.forEach((one) => [...one.querySelectorAll("img")].slice(strip.frames ? 1 : 0)
    .forEach((layer) => { layer.style.opacity = opacity.value; }));
  const show = (index) => {
    slider.value = index;
    windows.forEach((one) => one.show(index));
    const at = strip.places[index];
    where.textContent = video.unit === "s" ? place(at, "s") : `frame ${strip.names[index]}`;
    slider.setAttribute("aria-valuetext", where.textContent);
    now.textContent = notesAt(video, at);
    moved(at);
  };
  const lay = () => {
    const base = strip.frames ? [strip.frames] : [];
    const labelled = (kind) => {
      const one = stage(strip, [...base, ...(kind ? [strip.layers[kind]] : [])], `${video.name}, ${kind || "frame"}`);
      if (choice.value === "*") one.append(make("span", {}, kind || "frame"));
      return one;
    };
    windows = choice.value === "*" ? ["", ...kinds].map(labelled) : [labelled(choice.value)];
    stages.classList.toggle("only", windows.length === 1);
    stages.replaceChildren(...windows);
    fade();
    show(Number(slider.value));
  };
  const stop = () => { clearInterval(timer); timer = null; play.textContent = "▶"; play.setAttribute("aria-label", "play"); };
  play.addEventListener("click", () => {
    if (timer) return stop();
    play.textContent = "⏸";
    play.setAttribute("aria-label", "pause");
    timer = setInterval(() => {
      if (!play.isConnected) return stop();
      show((Number(slider.value) + 1) % strip.places.length);
    }, 250);
  });
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
  opacity.addEventListener("input", fade);
  choice.addEventListener("change", lay);
  const box = make("div", { class: "player" });
  const inner = make("div", {}, stages, make("div", { class: "controls" }, play, slider, where),
    make("div", { class: "controls" },
      kinds.length ? make("label", {}, "mask", choice) : null,
      kinds.length ? make("label", {}, "opacity", opacity) : null,
      make("button", { onclick: () => enlarge(inner, () => box.append(inner)) }, "Enlarge")), now);
  box.append(inner);
  box.seek = (at) => {
    const nearest = strip.places.reduce((best, one, index) =>
      Math.abs(one - at) < Math.abs(strip.places[best] - at) ? index : best, 0);
    stop();
    show(nearest);
  };
  lay();
  return box;
}

// Timelines

function curve(video, lane) {
  const names = Object.keys(lane.curves);
  const picture = drawing("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none" });
  for (const label of names) {
    const values = lane.curves[label], step = 1000 / values.length;
    const points = values.flatMap((value, k) => [`${(k * step).toFixed(1)},${100 - value}`, `${((k + 1) * step).toFixed(1)},${100 - value}`]);
    picture.append(drawing("polyline", { points: points.join(" "), fill: "none", stroke: colourOf(video, label),
      "stroke-width": 1.5, "vector-effect": "non-scaling-stroke" }));
  }
  return picture;
}

function lane(video, one) {
  const track = make("div", { class: one.curves ? "track curve" : "track" });
  if (one.curves) track.append(curve(video, one));
  const rows = [...new Set((one.spans || []).map((span) => span[2]))].sort(); // of labels, so that none hides another
  const most = Math.max(...(one.spans || []).map((span) => span[3] || 0), 1e-9);
  if (rows.length > 1) track.style.height = `${0.75 * rows.length}rem`;
  for (const [start, end, label, score] of one.spans || []) {
    track.append(make("b", { title: `${label}, ${start.toFixed(2)} to ${end.toFixed(2)} s` + (score === null ? "" : `, score ${score.toFixed(3)}`),
      style: { left: `${100 * start / video.duration}%`, width: `${100 * (end - start) / video.duration}%`,
        top: `${100 * rows.indexOf(label) / rows.length}%`, height: `${100 / rows.length}%`, background: colourOf(video, label),
        opacity: score === null ? 1 : 0.12 + 0.88 * Math.max(score, 0) / most } }));
  }
  for (const [at, yes, why] of one.marks || []) {
    track.append(make("b", { class: yes ? "mark" : "mark no", title: why, style: { left: `${100 * (at + 0.5) / video.duration}%` } }));
  }
  const words = one.spans ? `${one.caption}: ${one.spans.map((s) => `${s[2]} ${s[0].toFixed(1)} to ${s[1].toFixed(1)} s`).slice(0, 40).join("; ") || "none"}`
    : one.marks ? `${one.caption}: ${one.marks.filter((m) => m[1]).length} of ${one.marks.length} frames` : one.caption;
  track.setAttribute("role", "img");
  track.setAttribute("aria-label", words);
  const height = one.curves ? make("small", {}, ` up to ${one.top.toPrecision(2)}`) : null;
  return make("div", { class: "lane" }, make("span", {}, one.caption, height), track);
}

function timeline(video, seek) {
  const box = make("div", { class: "lanes" });
  const labels = Object.keys(video.colours);
  if (labels.length) {
    box.append(make("p", { class: "chips" }, ...labels.map((label) =>
      make("span", { class: "key" }, make("i", { style: { background: video.colours[label] } }), label))));
  }
  video.lanes.forEach((one) => box.append(lane(video, one)));
  if (video.lanes.length) {
    const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) =>
      make("span", { style: { left: `${100 * share}%` } }, place(share * video.duration, video.unit)));
    box.append(make("div", { class: "lane" }, make("span", {}), make("div", { class: "axis" }, ...ticks)));
  }
  const cursors = [...(video.strip ? box.querySelectorAll(".track") : [])].map((track) => track.appendChild(make("em")));
  box.cursor = (at) => cursors.forEach((cursor) => {
    cursor.style.left = `${100 * (at + (video.unit === "s" ? 0 : 0.5)) / video.duration}%`;
  });
  box.cursor(0);
  box.addEventListener("click", (event) => {
    const track = event.target.closest(".track");
    if (!track || !seek()) return;
    const edges = track.getBoundingClientRect();
    seek()((event.clientX - edges.left) / edges.width * video.duration);
  });
  return box;
}

function body(video) {
  let watch = null;
  const lines = timeline(video, () => watch && watch.seek);
  if (video.strip) watch = player(video, (at) => lines.cursor(at));
  const facts = Object.entries(video.facts);
  const side = make("div", {}, lines, facts.length ? make("dl", { class: "facts" },
    ...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])) : null);
  return make("div", { class: watch ? "body" : "body alone" }, watch, side);
}

// The list

function card(video, loading) {
  const layers = video.strip ? [video.strip.frames, Object.values(video.strip.layers)[0]].filter(Boolean) : [];
  const thumb = video.strip ? stage(video.strip, layers, video.name, loading) : make("span");
  const first = data.measures[0];
  const value = first && video.measures[first.key] !== undefined ? video.measures[first.key] : null;
  const box = make("details", { class: "video", id: `video=${encodeURIComponent(video.name)}` },
    make("summary", {}, thumb,
      make("span", {}, make("span", { class: "name" }, video.name),
        make("span", { class: "chips" }, ...video.tags.map((tag) => make("span", {}, tag)),
          ...video.problems.map((one) => make("span", { class: "problem" }, `⚠ ${one}`)))),
      first ? make("span", { class: "measure" }, shown(value), make("small", {}, first.caption)) : null));
  box.addEventListener("toggle", () => { if (box.open && box.children.length === 1) box.append(body(video)); });
  return box;
}

const list = document.getElementById("videos");
if (list) {
  list.classList.toggle("plain", !data.videos.some((video) => video.strip));
  const search = document.getElementById("search"), order = document.getElementById("order");
  const only = document.getElementById("only"), count = document.getElementById("count");
  const cards = new Map();
  const words = data.videos.map((video) => [video.name, ...video.tags, ...video.problems].join("\n").toLowerCase());
  const collator = new Intl.Collator(undefined, { numeric: true });
  let found = [], drawn = 0;

  for (const measure of data.measures) {
    for (const way of measure.higher === null ? ["highest", "lowest"] : ["worst", "best"]) {
      order.append(make("option", { value: `${way} ${measure.key}` }, `${way} ${measure.caption} first`));
    }
  }
  order.append(make("option", { value: "name" }, "name"), make("option", { value: "run" }, "order of the run"));
  order.selectedIndex = 0;

  const more = () => {
    const next = found.slice(drawn, drawn + PAGE);
    list.append(...next.map((index) => {
      if (!cards.has(index)) cards.set(index, card(data.videos[index], cards.size < AT_ONCE ? "eager" : "lazy"));
      return cards.get(index);
    }));
    drawn += next.length;
  };
  const update = () => {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = data.videos.map((_, index) => index).filter((index) => wanted.every((word) => words[index].includes(word))
      && (only.value === "" || data.videos[index].problems.length));
    const way = order.value.slice(0, order.value.indexOf(" ")), key = order.value.slice(order.value.indexOf(" ") + 1);
    if (order.value === "name") found.sort((a, b) => collator.compare(data.videos[a].name, data.videos[b].name));
    else if (order.value !== "run") {
      const measure = data.measures.find((one) => one.key === key);
      const rising = way === "lowest" || (way === "worst") === (measure.higher === true);
      const score = (index) => { const value = data.videos[index].measures[key]; return value === undefined ? null : value; };
      found.sort((a, b) => {
        const [x, y] = [score(a), score(b)];
        const without = way === "worst" ? 1 : -1; // a video that failed is among the worst
        if (x === null || y === null) return without * ((y === null) - (x === null)) || a - b;
        return (rising ? x - y : y - x) || a - b;
      });
    }
    count.textContent = `${found.length} of ${data.videos.length} videos`;
    drawn = 0;
    list.replaceChildren();
    more();
  };
  const end = document.getElementById("end");
  new IntersectionObserver((entries) => { if (entries.some((one) => one.isIntersecting) && drawn < found.length) more(); },
    { rootMargin: "800px" }).observe(end);
  search.addEventListener("input", update);
  order.addEventListener("change", update);
  only.addEventListener("change", update);
  update();

  const follow = () => {
    if (!location.hash.startsWith("#video=")) return;
    const name = decodeURIComponent(location.hash.slice(7));
    const index = data.videos.findIndex((video) => video.name === name);
    if (index < 0) return;
    if (!found.includes(index)) { search.value = ""; only.value = ""; update(); }
    while (drawn <= found.indexOf(index)) more();
    const box = cards.get(index);
    box.open = true;
    box.scrollIntoView();
  };
  addEventListener("hashchange", follow);
  follow();
}
