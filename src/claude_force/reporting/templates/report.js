"use strict";
// Makes what is shown on demand out of the JSON in this page. Texts become text nodes, never markup: the page's policy
// forbids anything else.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const body = document.querySelector(".timeline tbody");
  if (!body) return;
  const rows = [...body.rows];
  const shown = document.getElementById("shown");
  const search = document.getElementById("search");
  const sort = document.getElementById("sort");
  const graph = document.getElementById("graph");
  const boxes = [...graph.querySelectorAll(".box")];
  const edges = [...graph.querySelectorAll(".edge")];
  const CALLS_AT_ONCE = 50;
  const SVG = "http://www.w3.org/2000/svg";
  const wall = Math.max(0.001, ...data.steps.map((step) => step.end || 0));
  const usedBy = data.steps.map(() => []);
  data.steps.forEach((step, number) => (step.needs || []).forEach((needed) => usedBy[needed].push(number)));

  const whole = (number) => number.toLocaleString("en-US");
  const plural = (number, one, many) => `${whole(number)} ${number === 1 ? one : many || one + "s"}`;
  const took = (seconds) =>
    seconds < 0.9995 ? `${Math.round(seconds * 1000)} ms`
    : seconds < 59.95 ? `${seconds.toFixed(1)} s`
    : seconds < 3599.5 ? `${Math.floor(Math.round(seconds) / 60)} min ${String(Math.round(seconds) % 60).padStart(2, "0")} s`
    : `${Math.floor(Math.round(seconds / 60) / 60)} h ${String(Math.round(seconds / 60) % 60).padStart(2, "0")} min`;

  function make(tag, properties, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties || {})) {
      if (name in element) element[name] = value;
      else element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
    return element;
  }

  function textOf(index) {
    const text = data.texts[index];
    return typeof text === "string" ? { text, cut: 0 } : { text: text[0], cut: text[1] - text[0].length };
  }

  function block(title, index, level) {
    const { text, cut } = textOf(index);
    const heading = make(level || "h3", { textContent: title });
    const copy = make("button", { type: "button", className: "copy", textContent: "Copy" });
    copy.setAttribute("aria-label", `Copy: ${title}`);
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text);
        copy.textContent = "Copied";
      } catch {
        copy.textContent = "Not allowed here";
      }
      setTimeout(() => (copy.textContent = "Copy"), 1500);
    });
    const pre = make("pre", { className: "text", tabIndex: 0, textContent: text });
    pre.setAttribute("role", "region");
    pre.setAttribute("aria-label", title);
    return make("section", { className: "block" }, make("header", {}, heading, copy), pre,
      cut ? make("p", { className: "note", textContent: `${whole(cut)} more characters were left out of this file.` }) : "");
  }

  function facts(pairs) {
    const list = make("dl", { className: "facts" });
    for (const [name, value] of pairs) {
      if (value === null || value === undefined || value === "") continue;
      list.append(make("div", {}, make("dt", { textContent: name }), make("dd", {}, ...(Array.isArray(value) ? value : [String(value)]))));
    }
    return list;
  }

  function links(numbers) {
    const nodes = [];
    numbers.slice(0, 12).forEach((number, index) => {
      if (index) nodes.push(", ");
      const link = make("button", { type: "button", className: "link", textContent: data.steps[number].id });
      link.dataset.step = number;
      nodes.push(link);
    });
    if (numbers.length > 12) nodes.push(` and ${whole(numbers.length - 12)} more`);
    return nodes.length ? nodes : "";
  }

  function callTitle(call) {
    const parts = [];
    if (call.item !== undefined) parts.push(`Item ${whole(call.item + 1)}`);
    if (call.round) parts.push(`Round ${call.round}`);
    if (call.repair) parts.push("Repair");
    return parts.join(" · ") || "Call";
  }

  const tokensIn = (call) => call.usage[0] + call.usage[1] + call.usage[2];

  function callInside(call) {
    const [fresh, written, read, out] = call.usage;
    const inside = make("div", { className: "inside" });
    inside.append(facts([
      ["Model", call.model], ["Agent", call.agent], ["Attempts", call.cached ? "" : call.attempts],
      ["Answered by", call.cached ? `cache (${call.cached})` : ""], ["Saved", call.saved],
      ["Input", `${whole(fresh)} tokens`],
      ["Prompt cache", written || read ? `${whole(read)} read, ${whole(written)} written` : ""],
      ["Output", `${whole(out)} tokens`], ["Cost", call.cost],
      ["From – to", `${took(call.start)} – ${took(call.end)}`],
      ["Request", call.request], ["Key", call.key],
    ]));
    if (call.error || call.kind) {
      inside.append(make("p", { className: "callout s-failed" }, make("b", { textContent: call.kind || "failed" }), ` ${call.error || ""}`));
    }
    for (const [role, index] of call.prompt || []) inside.append(block(`Prompt, ${role}`, index, "h4"));
    if (call.text !== undefined) inside.append(block("Answer", call.text, "h4"));
    return inside;
  }

  function callRow(call, open) {
    const left = Math.min((100 * call.start) / wall, 99.4);
    const bar = document.createElementNS(SVG, "svg");
    bar.setAttribute("width", "100%");
    bar.setAttribute("height", "12");
    bar.setAttribute("aria-hidden", "true");
    const rect = document.createElementNS(SVG, "rect");
    for (const [name, value] of [["x", `${left}%`], ["y", 1], ["height", 10], ["rx", 2], ["width", `${Math.max(0.6, (100 * (call.end - call.start)) / wall)}%`]]) rect.setAttribute(name, value);
    bar.append(rect);
    const title = make("span", { className: "call" }, callTitle(call));
    if (call.error || call.kind) title.append(make("span", { className: "tag s-failed", textContent: call.kind || "failed" }));
    if (call.cached) title.append(make("span", { className: "tag cache", textContent: call.cached }));
    else if (call.attempts > 1) title.append(make("span", { className: "tag s-skipped", textContent: plural(call.attempts, "attempt") }));
    const details = make("details", { className: call.error || call.kind ? "s-failed" : "s-succeeded" },
      make("summary", {}, title, bar,
        make("span", { className: "num", textContent: took(call.end - call.start) }),
        make("span", { className: "num io", textContent: `${whole(tokensIn(call))} → ${whole(call.usage[3])}` }),
        make("span", { className: "num", textContent: call.cost })));
    const fill = () => { if (details.open && details.childElementCount === 1) details.append(callInside(call)); };
    details.addEventListener("toggle", fill);
    if (open) { details.open = true; fill(); }
    return details;
  }

  function callList(step) {
    // In the order in which they were begun; a call that failed first, since that is what is looked for.
    const calls = step.calls.slice().sort((one, other) => Boolean(other.kind) - Boolean(one.kind) || (one.item ?? -1) - (other.item ?? -1) || one.start - other.start);
    const list = make("div", { className: "calls" });
    const more = make("button", { type: "button", className: "more" });
    let count = 0;
    const extend = () => {
      list.append(...calls.slice(count, count + CALLS_AT_ONCE).map((call) => callRow(call, calls.length === 1)));
      count = Math.min(count + CALLS_AT_ONCE, calls.length);
      more.hidden = count === calls.length;
      more.textContent = `Show ${whole(Math.min(CALLS_AT_ONCE, calls.length - count))} more of ${whole(calls.length)}`;
    };
    more.addEventListener("click", extend);
    extend();
    return [make("h3", { textContent: plural(calls.length, "call") }), list, more];
  }

  function sheet(number) {
    const step = data.steps[number];
    const models = [...new Set((step.calls || []).map((call) => call.model))];
    const box = make("div", { className: `sheet s-${step.state}` });
    box.append(facts([
      ["State", step.critical ? `${step.state}, on the critical path` : step.state], ["Agent", step.agent],
      ["Model", models.join(", ")],
      ["Started at", step.start === undefined ? "" : took(step.start)],
      ["Took", step.start === undefined ? "" : took(Math.max(0, (step.end ?? wall) - step.start))],
      ["Depends on", links(step.needs || [])], ["Needed by", links(usedBy[number])],
    ]));
    if (step.error || step.kind) box.append(make("p", { className: "callout s-failed" }, make("b", { textContent: step.kind || "failed" }), ` ${step.error || ""}`));
    if (step.reason) box.append(make("p", { className: "callout s-skipped" }, make("b", { textContent: "skipped" }), ` ${step.reason}`));
    const only = step.calls && step.calls.length === 1 && step.calls[0].text === step.text;
    if (step.text !== undefined && !only) box.append(block("Answer", step.text));
    if (step.calls) box.append(...callList(step));
    else if (step.state !== "skipped") box.append(make("p", { className: "note", textContent: "No call was recorded." }));
    return box;
  }

  function toggle(number, open) {
    const row = rows[number];
    const button = row.querySelector(".step");
    const next = row.nextElementSibling;
    const isOpen = next !== null && next.classList.contains("details");
    if (open === isOpen) return;
    if (isOpen) {
      next.remove();
      button.setAttribute("aria-expanded", "false");
      return;
    }
    const cell = make("td", { colSpan: 6 }, sheet(number));
    row.after(make("tr", { className: "details" }, cell));
    button.setAttribute("aria-expanded", "true");
  }

  function go(number) {
    if (!(number in rows)) return;
    if (rows[number].hidden) clearFilters();
    toggle(number, true);
    history.replaceState(null, "", `#r${number}`);
    rows[number].scrollIntoView({ block: "start" });
    rows[number].querySelector(".step").focus({ preventScroll: true });
  }

  // Filters.
  let state = "";
  let members = null;
  let lowerTexts = null;

  function matching(words) {
    if (!words) return () => true;
    lowerTexts = lowerTexts || data.texts.map((text) => (typeof text === "string" ? text : text[0]).toLowerCase());
    const hits = new Set();
    lowerTexts.forEach((text, index) => { if (text.includes(words)) hits.add(index); });
    return (step) =>
      [step.id, step.agent, step.error, step.kind, step.reason].some((text) => text && text.toLowerCase().includes(words)) ||
      hits.has(step.text) ||
      (step.calls || []).some((call) => hits.has(call.text) || (call.error || "").toLowerCase().includes(words) || call.model.toLowerCase().includes(words) || (call.prompt || []).some((part) => hits.has(part[1])));
  }

  function filter() {
    const fits = matching(search.value.trim().toLowerCase());
    let count = 0;
    data.steps.forEach((step, number) => {
      const visible = (!state || (state === "critical" ? Boolean(step.critical) : step.state === state)) && (!members || members.has(number)) && fits(step);
      rows[number].hidden = !visible;
      if (!visible) toggle(number, false);
      count += visible;
    });
    shown.textContent = count === rows.length ? plural(count, "step") : `${whole(count)} of ${plural(rows.length, "step")}`;
    document.querySelector(".empty").hidden = count > 0;
  }

  function press(value) {
    state = value;
    members = null;
    for (const chip of document.querySelectorAll(".chips button")) chip.setAttribute("aria-pressed", String(chip.dataset.state === value));
  }

  function clearFilters() {
    search.value = "";
    press("");
    filter();
  }

  function order() {
    const key = sort.value;
    const value = (row) => key === "number" ? 0 : Number(row.dataset[key]) * (key === "start" ? 1 : -1);
    const sorted = rows.slice().sort((one, other) => value(one) - value(other));
    rows.forEach((_, number) => toggle(number, false));
    body.append(...sorted);
  }

  let timer = 0;
  search.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(filter, 120); });
  sort.addEventListener("change", order);
  document.querySelector(".chips").addEventListener("click", (event) => {
    const chip = event.target.closest("button");
    if (chip) { press(chip.dataset.state); filter(); }
  });
  document.querySelector(".filters").hidden = false;

  // The graph: a box opens its step, or shows its group alone; what belongs to it stands out meanwhile.
  function near(box) {
    graph.classList.toggle("focused", box !== null && boxes.length > 1);
    if (box === null) return;
    const number = String(boxes.indexOf(box));
    const close = new Set([number]);
    for (const edge of edges) {
      const mine = edge.dataset.from === number || edge.dataset.to === number;
      edge.classList.toggle("near", mine || edge.dataset.from === undefined);
      if (mine) close.add(edge.dataset.from).add(edge.dataset.to);
    }
    boxes.forEach((other, index) => other.classList.toggle("near", close.has(String(index))));
    if (edges.some((edge) => edge.dataset.from === undefined)) graph.classList.remove("focused");
  }

  function choose(box) {
    const numbers = box.dataset.members.split(" ").map(Number);
    if (numbers.length === 1) return go(numbers[0]);
    search.value = "";
    press(null);
    members = new Set(numbers);
    filter();
    document.getElementById("steps").scrollIntoView({ block: "start" });
    rows[numbers[0]].querySelector(".step").focus({ preventScroll: true });
  }

  function neighbour(box, key) {
    const at = (one) => one.transform.baseVal.getItem(0).matrix;
    const here = at(box);
    const across = key === "ArrowLeft" || key === "ArrowRight";
    const sign = key === "ArrowRight" || key === "ArrowDown" ? 1 : -1;
    let best = null;
    let least = Infinity;
    for (const other of boxes) {
      const there = at(other);
      const along = sign * (across ? there.e - here.e : there.f - here.f);
      const aside = Math.abs(across ? there.f - here.f : there.e - here.e);
      if (along < 1) continue;
      const distance = along + 3 * aside;
      if (distance < least) { least = distance; best = other; }
    }
    return best;
  }

  graph.addEventListener("click", (event) => {
    const box = event.target.closest(".box");
    if (box) choose(box);
  });
  graph.addEventListener("keydown", (event) => {
    const box = event.target.closest(".box");
    if (!box) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      choose(box);
    } else if (event.key.startsWith("Arrow")) {
      const next = neighbour(box, event.key);
      event.preventDefault();
      if (!next) return;
      box.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    }
  });
  for (const kind of ["pointerover", "focusin"]) graph.addEventListener(kind, (event) => near(event.target.closest(".box")));
  for (const kind of ["pointerleave", "focusout"]) graph.addEventListener(kind, () => near(null));

  const natural = graph.width.baseVal.value;
  const ratio = graph.height.baseVal.value / natural;
  function resize(width) {
    const size = Math.min(Math.max(width, 120), 4 * natural);
    graph.setAttribute("width", size);
    graph.setAttribute("height", size * ratio);
  }
  const canvas = document.querySelector(".canvas");
  const zooms = {
    in: () => resize(graph.width.baseVal.value * 1.25),
    out: () => resize(graph.width.baseVal.value / 1.25),
    fit: () => resize(Math.min(canvas.clientWidth - 26, (canvas.clientHeight - 26) / ratio, natural)),
    full: () => resize(natural),
  };
  document.querySelector(".tools").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) zooms[button.dataset.zoom]();
  });
  // A graph that is a little too wide is shown whole; a large one stays legible and scrolls.
  if (natural > canvas.clientWidth - 26 && canvas.clientWidth - 26 > 0.72 * natural) resize(canvas.clientWidth - 26);

  // Steps by mouse and by keys.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-step]");
    if (link) return go(Number(link.dataset.step));
    const button = event.target.closest(".step");
    if (button) toggle(rows.indexOf(button.closest("tr")));
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
      event.preventDefault();
      search.focus();
    } else if (event.key === "Escape" && event.target === search) {
      clearFilters();
    } else if (event.target.classList.contains("step") && ["ArrowDown", "ArrowUp", "Home", "End"].includes(event.key)) {
      const visible = [...body.querySelectorAll("tr:not([hidden]) .step")];
      const here = visible.indexOf(event.target);
      const to = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: visible.length - 1 }[event.key];
      event.preventDefault();
      if (visible[to]) visible[to].focus();
    }
  });
  const fromHash = () => {
    const match = /^#r(\d+)$/.exec(location.hash);
    if (match) go(Number(match[1]));
  };
  addEventListener("hashchange", fromHash);
  fromHash();
})();
