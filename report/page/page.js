// Draws the report: the time line with its pictures, curves, and maps. All data
// stand in the page; nothing is loaded.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const chunks = data.chunks || [], moments = data.moments || [], dims = data.dims || [];
  const by = id => document.getElementById(id);
  const slider = by("slider");
  const state = { at: 0, window: 0, playing: null };

  // Colours: the system's choice until the button makes another.
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  const dark = () => (chosen === null ? system.matches : chosen);
  const colour = name => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  function theme() {
    document.documentElement.dataset.theme = dark() ? "dark" : "light";
    document.documentElement.style.colorScheme = dark() ? "dark" : "light";
    drawAll();
  }

  const known = v => v !== null && v !== undefined;
  const now = () => (chunks.length ? chunks[state.at].t : 0);

  // pen prepares a canvas for drawing in CSS pixels.
  function pen(canvas) {
    const w = canvas.clientWidth, h = canvas.clientHeight, ratio = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
      canvas.width = Math.round(w * ratio);
      canvas.height = Math.round(h * ratio);
    }
    const c = canvas.getContext("2d");
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, w, h);
    c.font = "10px system-ui, 'Liberation Sans', sans-serif";
    c.lineJoin = "round";
    return { c, w, h };
  }

  // ticks are round numbers between two.
  function ticks(low, high, most) {
    const rough = (high - low) / most, power = Math.pow(10, Math.floor(Math.log10(rough)));
    const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= rough);
    const list = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) list.push({ v: k * step, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) });
    return list;
  }

  // plot draws the frame of a chart and returns its scales.
  function plot(canvas, x0, x1, y0, y1, label, yTicks) {
    const { c, w, h } = pen(canvas), left = 46, right = 8, top = 6, bottom = 16;
    const X = v => left + (v - x0) / (x1 - x0) * (w - left - right), Y = v => h - bottom - (v - y0) / (y1 - y0) * (h - top - bottom);
    c.strokeStyle = colour("grid"); c.fillStyle = colour("soft"); c.lineWidth = 1;
    c.textAlign = "right"; c.textBaseline = "middle";
    for (const t of ticks(y0, y1, yTicks || 3)) {
      c.beginPath(); c.moveTo(left, Y(t.v)); c.lineTo(w - right, Y(t.v)); c.stroke();
      c.fillText(t.v.toFixed(t.digits), left - 5, Y(t.v));
    }
    c.textAlign = "center"; c.textBaseline = "alphabetic";
    for (const t of ticks(x0, x1, Math.max(3, w / 110))) c.fillText(label(t), X(t.v), h - 4);
    return { c, X, Y, w, h, left, right, top, bottom, x0, x1 };
  }

  function path(p, points, style, width, dash) {
    p.c.strokeStyle = style; p.c.lineWidth = width; p.c.setLineDash(dash || []);
    p.c.beginPath();
    let down = false;
    for (const [x, y] of points) {
      if (!known(y)) { down = false; continue; }
      if (down) p.c.lineTo(p.X(x), p.Y(y)); else p.c.moveTo(p.X(x), p.Y(y));
      down = true;
    }
    p.c.stroke(); p.c.setLineDash([]);
  }

  function within(p, draw) {
    p.c.save(); p.c.beginPath(); p.c.rect(p.left, 0, p.w - p.left - p.right, p.h - p.bottom + 1); p.c.clip(); draw(); p.c.restore();
  }

  function cursor(p, t) {
    p.c.strokeStyle = colour("accent"); p.c.lineWidth = 1; p.c.setLineDash([3, 3]);
    p.c.beginPath(); p.c.moveTo(p.X(t), p.top); p.c.lineTo(p.X(t), p.h - p.bottom); p.c.stroke(); p.c.setLineDash([]);
  }

  const whole = () => [0, Math.max(data.duration || 0, chunks.length ? chunks[chunks.length - 1].t : 0, 1e-3)];
  function view() {
    const [a, b] = whole();
    if (!state.window || state.window >= b - a) return [a, b];
    const begin = Math.min(Math.max(now() - state.window / 2, a), b - state.window);
    return [begin, begin + state.window];
  }
  const second = t => t.v.toFixed(t.digits) + " s";

  // A click on a time line goes to the chunk nearest to it.
  function clickable(canvas, scale) {
    canvas.addEventListener("click", e => {
      const p = scale();
      if (p) goTo(p.x0 + (e.offsetX - p.left) / (p.w - p.left - p.right) * (p.x1 - p.x0));
    });
  }

  let stripScale = null;
  function drawStrip() {
    const top = Math.max(1e-6, ...chunks.map(k => Math.max(k.e || 0, k.j || 0))), [a, b] = whole();
    const p = stripScale = plot(by("strip"), a, b, 0, top * 1.08, second);
    path(p, chunks.map(k => [k.t, k.j]), colour("jump"), 1.3);
    path(p, chunks.map(k => [k.t, k.e]), colour("accent"), 1.6);
    cursor(p, now());
  }

  // One panel for each dimension, the arms beside each other.
  const panels = dims.map((dim, d) => {
    let low = Infinity, high = -Infinity;
    const see = v => { if (known(v)) { low = Math.min(low, v); high = Math.max(high, v); } };
    chunks.forEach(k => k.v[d].forEach(see));
    (data.recorded.v || [])[d]?.forEach(see);
    if (!(high >= low)) { low = 0; high = 1; }
    const least = dim.gripper ? 0.005 : 0.02, room = Math.max((high - low) * 0.06, (least - (high - low)) / 2);
    const arm = [...by("curves").children].find(e => e.dataset.arm === dim.arm) || by("curves").appendChild(Object.assign(document.createElement("div"), { className: "arm" }));
    arm.dataset.arm = dim.arm;
    const box = document.createElement("div"), head = document.createElement("h3"), more = document.createElement("span"), canvas = document.createElement("canvas");
    box.className = "curve";
    head.append(dim.name, more);
    const mae = data.joints[d].mae;
    more.textContent = known(mae) ? "mean error " + mae.toFixed(4) + " " + dim.unit : dim.unit;
    canvas.setAttribute("aria-label", "chunks over recorded commands of " + dim.name);
    box.append(head, canvas);
    arm.append(box);
    const panel = { d, dim, canvas, low: low - room, high: high + room, scale: null };
    clickable(canvas, () => panel.scale);
    return panel;
  });

  // points of a chunk begin with its first row, which is due a period after its stamp.
  const points = (k, d) => k.v[d].map((v, row) => [k.t + (row + 1) / data.rate, v]);

  function drawPanel(panel) {
    const [a, b] = view(), { d, dim } = panel;
    const p = panel.scale = plot(panel.canvas, a, b, panel.low, panel.high, second);
    within(p, () => {
      if (dim.upper > dim.lower) for (const v of [dim.lower, dim.upper]) path(p, [[a, v], [b, v]], colour("hold"), 1.2, [5, 4]);
      const reach = (data.joints[d].mae_by_step || []).length / data.rate, recorded = (data.recorded.v || [])[d];
      for (const k of chunks) if (k.t + reach >= a && k.t <= b) path(p, points(k, d), colour("accent-soft"), 1.2);
      if (recorded) path(p, recorded.map((v, i) => [data.recorded.t + i * data.recorded.step, v]), colour("recorded"), 1.4);
      if (chunks.length) {
        path(p, points(chunks[state.at], d), colour("accent"), 2.6);
        cursor(p, now());
      }
    });
  }

  function drawHorizon() {
    const canvas = by("horizon");
    if (!canvas) return;
    const steps = data.steps, top = Math.max(1e-6, ...steps.map(s => Math.max(s.mae || 0, s.rmse || 0, s.mae_hold || 0)));
    const p = plot(canvas, 0.5, steps.length + 0.5, 0, top * 1.08, t => (t.digits === 0 && t.v >= 1 ? "row " + t.v : ""), 5);
    const line = (get, style, width, dash) => path(p, steps.map((s, i) => [i + 1, get(s)]), style, width, dash);
    line(s => s.mae_hold, colour("hold"), 1.6, [5, 4]);
    line(s => s.rmse, colour("jump"), 1.8);
    line(s => s.mae, colour("accent"), 2.2);
  }

  function svg(name, attributes, parent, text) {
    const e = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
    if (text !== undefined) e.textContent = text;
    if (parent) parent.append(e);
    return e;
  }

  // map is a grid with a line for each dimension; cell draws one.
  function map(where, columns, heading, size, cell) {
    const left = 110, top = 20;
    const root = svg("svg", { width: left + columns * size.w + 4, height: top + dims.length * size.h + 4, role: "img", "aria-label": heading });
    svg("text", { x: left - 8, y: 13, "text-anchor": "end", class: "soft" }, root, heading);
    for (let k = 0; k < columns; k++) svg("text", { x: left + (k + 0.5) * size.w, y: 13, "text-anchor": "middle", class: "soft" }, root, k + 1);
    dims.forEach((dim, d) => {
      svg("text", { x: left - 8, y: top + (d + 0.5) * size.h + 4, "text-anchor": "end" }, root, dim.name);
      for (let k = 0; k < columns; k++) cell(root, d, k, left + k * size.w, top + d * size.h);
    });
    where.replaceChildren(root);
  }

  function drawErrorMap() {
    const where = by("error-map"), size = { w: 46, h: 22 };
    if (!where || !data.steps.length) return;
    const share = (d, k) => { const v = (data.joints[d].mae_by_step || [])[k]; return known(v) && dims[d].range > 0 ? v / dims[d].range : null; };
    let top = 1e-6;
    dims.forEach((_, d) => data.steps.forEach((_, k) => { top = Math.max(top, share(d, k) || 0); }));
    map(where, data.steps.length, "row", size, (root, d, k, x, y) => {
      const s = share(d, k);
      const box = { x: x + 1, y: y + 1, width: size.w - 2, height: size.h - 2, rx: 2 };
      svg("rect", { ...box, class: "cell" }, root);
      if (!known(s)) return;
      const r = svg("rect", { ...box, fill: colour("accent"), "fill-opacity": (0.85 * s / top).toFixed(3) }, root);
      svg("title", {}, r, dims[d].name + ", row " + (k + 1) + ": " + data.joints[d].mae_by_step[k].toFixed(4) + " " + dims[d].unit);
      svg("text", { x: x + size.w / 2, y: y + size.h / 2 + 4, "text-anchor": "middle", "pointer-events": "none" }, root, (100 * s).toFixed(1));
    });
  }

  // confident is the colour of a confidence: red is doubtful, blue sure.
  function confident(c) {
    const stops = dark() ? [[255, 110, 100], [190, 190, 200], [80, 165, 255]] : [[200, 40, 40], [150, 150, 160], [15, 95, 200]];
    const x = Math.min(Math.max(c, 0), 1) * 2, i = Math.min(Math.floor(x), 1), f = x - i;
    return "rgb(" + stops[i].map((v, k) => Math.round(v + f * (stops[i + 1][k] - v))).join(",") + ")";
  }

  // shown is the moment whose pictures stand: the newest one that is not after the slider.
  function shown() {
    let found = null;
    for (const m of moments) if (m.t <= now() + 1e-9 || !found) found = m;
    return found;
  }

  function drawDecoding() {
    const where = by("decode-map");
    if (!where || !data.decoding) return;
    const one = document.querySelector("input[name=which]:checked").value === "one", moment = shown();
    const m = one && moment ? moment.rounds : data.decoding.map;
    by("which-one").textContent = moment ? "the chunk at " + moment.t.toFixed(2) + " s" : "the chunk at the slider";
    by("scale").style.background = "linear-gradient(to right," + [0, 0.5, 1].map(confident).join(",") + ")";
    by("scale").title = "0 to 1";
    if (!m) { where.textContent = "This chunk was not decoded in rounds."; return; }
    const size = { w: 32, h: 24 };
    map(where, m.committed.length, "round", size, (root, d, r, x, y) => {
      const n = m.committed[r][d], again = m.remasked[r][d], c = m.confidence[r][d], full = Math.min(size.w, size.h) - 3;
      const group = svg("g", {}, root);
      svg("title", {}, group, dims[d].name + ", round " + (r + 1) + ": " + n + " of " + m.tokens + " tokens committed" + (known(c) ? ", confidence " + c.toFixed(3) : "") + (again ? ", " + again + " masked again" : ""));
      svg("rect", { x: x + 1, y: y + 1, width: size.w - 2, height: size.h - 2, class: "cell", rx: 2 }, group);
      if (n > 0) {
        const side = Math.max(2, full * Math.sqrt(Math.min(1, n / m.tokens)));
        svg("rect", { x: x + (size.w - side) / 2, y: y + (size.h - side) / 2, width: side, height: side, fill: confident(c), rx: 1, class: "committed" }, group);
      }
      if (again > 0) for (const s of [-1, 1]) svg("line", { x1: x + size.w - 9, y1: y + 6 - 3 * s, x2: x + size.w - 3, y2: y + 6 + 3 * s, class: "again" }, group);
    });
  }

  let pictured = null;
  function drawPictures() {
    const moment = shown();
    if (moment === pictured) return;
    pictured = moment;
    by("pictures").replaceChildren(...((moment && moment.pictures) || []).map(p => {
      const figure = document.createElement("figure"), img = document.createElement("img"), caption = document.createElement("figcaption");
      img.width = p.width; img.height = p.height; img.alt = p.camera;
      img.src = "data:image/jpeg;base64," + p.jpeg;
      caption.textContent = p.camera + ", " + p.t.toFixed(3) + " s";
      figure.append(img, caption);
      return figure;
    }));
  }

  function drawTime() {
    slider.max = Math.max(0, chunks.length - 1);
    slider.value = state.at;
    const k = chunks[state.at], [, end] = whole();
    by("clock").textContent = k ? k.t.toFixed(2) + " of " + end.toFixed(2) + " s" : "no chunk";
    slider.setAttribute("aria-valuetext", by("clock").textContent);
    const said = k && (data.instructions || [])[k.i];
    by("instruction").textContent = said ? "“" + said.text + "”" : "";
    drawPictures();
    drawStrip();
    panels.forEach(drawPanel);
    if (document.querySelector("input[name=which]:checked")?.value === "one") drawDecoding();
  }

  function drawAll() {
    drawTime();
    drawHorizon();
    drawErrorMap();
    drawDecoding();
  }

  function set(at) {
    state.at = Math.min(Math.max(at, 0), Math.max(0, chunks.length - 1));
    drawTime();
  }

  // goTo goes to the chunk nearest to a time.
  function goTo(t) {
    let best = 0;
    chunks.forEach((k, i) => { if (Math.abs(k.t - t) < Math.abs(chunks[best].t - t)) best = i; });
    set(best);
  }

  function play(on) {
    if (state.playing) cancelAnimationFrame(state.playing.frame);
    state.playing = null;
    by("play").textContent = on ? "❚❚" : "▶";
    if (!on || !chunks.length) return;
    if (state.at === chunks.length - 1) set(0);
    const began = performance.now(), from = now();
    const step = () => {
      const t = from + (performance.now() - began) / 1000;
      let at = state.at;
      while (at + 1 < chunks.length && chunks[at + 1].t <= t) at++;
      if (at !== state.at) set(at);
      if (at === chunks.length - 1) return play(false);
      state.playing.frame = requestAnimationFrame(step);
    };
    state.playing = { frame: requestAnimationFrame(step) };
  }

  // #t=1.5 in the address goes to a time, as the links of the tables do.
  function fragment() {
    const t = /^#t=(-?[\d.]+)$/.exec(location.hash);
    if (t) goTo(parseFloat(t[1]));
  }

  slider.addEventListener("input", () => { play(false); set(Number(slider.value)); });
  by("back").addEventListener("click", () => { play(false); set(state.at - 1); });
  by("next").addEventListener("click", () => { play(false); set(state.at + 1); });
  by("play").addEventListener("click", () => play(!state.playing));
  by("window").addEventListener("change", e => { state.window = Number(e.target.value); drawTime(); });
  by("theme").addEventListener("click", () => { chosen = !dark(); theme(); });
  document.querySelectorAll("input[name=which]").forEach(e => e.addEventListener("change", drawDecoding));
  document.querySelectorAll("a.goto").forEach(a => a.addEventListener("click", e => { e.preventDefault(); play(false); goTo(parseFloat(a.getAttribute("href").slice(3))); }));
  addEventListener("hashchange", fragment);
  addEventListener("resize", drawAll);
  system.addEventListener("change", theme);
  clickable(by("strip"), () => stripScale);
  if (chunks.length < data.chunks_seen) by("curves-note").textContent = chunks.length + " of " + data.chunks_seen + " chunks are drawn.";
  theme();
  fragment();
})();
