"use strict";
// The page is complete without this: it adds zoom, hover, scales, smoothing and copying to what is drawn.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const raised = (n) => String(n).replace(/[-\d]/g, (c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]));

  function number(value, digits = 3) {
    if (value === null || Number.isNaN(value)) return "–";
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 1e-4 && size < 1e7) {
      return Number(value.toPrecision(digits)).toLocaleString("en", { maximumFractionDigits: 12 }).replace("-", "−");
    }
    const [mantissa, power] = value.toExponential(digits - 1).split("e");
    const short = String(Number(mantissa));
    return (short === "1" ? "" : short + " × ").replace("-", "−") + "10" + raised(Number(power));
  }

  function ticks(low, high, log) {
    if (log && high - low >= 0.3) {
      const digits = high - low < 0.9 ? [1, 2, 3, 5] : high - low < 1.7 ? [1, 2, 5] : [1];
      const every = Math.ceil((high - low) / 9);
      const values = [];
      for (let k = Math.floor(low); k <= Math.ceil(high); k++) {
        if (digits.length === 1 && (k - Math.ceil(low - 1e-9)) % every) continue;
        for (const d of digits) values.push(d * 10 ** k);
      }
      return values
        .filter((v) => Math.log10(v) >= low - 1e-9 && Math.log10(v) <= high + 1e-9)
        .map((v) => [v, digits.length === 1 && (low < -3 || high > 5) ? "10" + raised(Math.round(Math.log10(v))) : number(v)]);
    }
    if (log) [low, high] = [10 ** low, 10 ** high];
    const raw = (high - low) / 5;
    const unit = 10 ** Math.floor(Math.log10(raw));
    const step = unit * [1, 2, 5, 10].find((n) => n * unit >= raw * (1 - 1e-9));
    const digits = Math.max(-Math.floor(Math.log10(step) + 1e-9), 0);
    const values = [];
    for (let i = Math.ceil(low / step - 1e-9); i <= Math.floor(high / step + 1e-9); i++) values.push(i * step + 0); // never -0
    const plain = Math.max(Math.abs(low), Math.abs(high)) < 1e6 && digits <= 6;
    const format = { minimumFractionDigits: digits, maximumFractionDigits: digits };
    return values.map((v) => [v, plain ? v.toLocaleString("en", format).replace("-", "−") : number(v)]);
  }

  function make(name, attributes, parent, text) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.appendChild(node);
    return node;
  }

  class Chart {
    constructor(figure) {
      this.figure = figure;
      this.data = JSON.parse(figure.querySelector("script").textContent);
      this.plot = figure.querySelector(".plot");
      this.svg = this.plot.querySelector("svg");
      this.box(this.data.box[0], this.data.box[1]);
      this.log = [...this.data.log];
      this.view = [...this.data.view];
      this.hidden = new Set();
      this.smooth = true;
      this.at = null;
      this.title = figure.querySelector("figcaption").textContent;
      this.controls();
      this.listen();
      // On a phone the drawing is made anew, so that its text keeps its size.
      const narrow = () => {
        const room = this.plot.clientWidth;
        const width = room > 0 && room < 560 ? Math.max(room, 280) : this.data.box[0];
        if (width === this.width) return;
        this.box(width, width < this.data.box[0] ? Math.min(this.data.box[1], 260) : this.data.box[1]);
        this.draw();
      };
      window.addEventListener("resize", narrow);
      narrow();
    }

    box(width, height) {
      [this.width, this.height] = [width, height];
      [this.left, this.right, this.top, this.bottom] = this.data.box.slice(2);
      this.wide = width - this.left - this.right;
      this.high = height - this.top - this.bottom;
      this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    }

    controls() {
      const tools = document.createElement("div");
      tools.className = "tools";
      const button = (text, act, pressed) => {
        const node = document.createElement("button");
        node.type = "button";
        node.textContent = text;
        if (pressed !== undefined) node.setAttribute("aria-pressed", pressed);
        node.addEventListener("click", () => act(node));
        tools.appendChild(node);
        return node;
      };
      const axis = (i) => (node) => {
        this.log[i] = !this.log[i];
        node.setAttribute("aria-pressed", this.log[i]);
        this.reset();
      };
      if (this.data.scales) {
        const can = this.data.scales;
        const values = (i) => this.data.series.flatMap((s) => s.points.map((p) => p[i]));
        const positive = (i) => values(i).some((v) => v > 0) && this.data.zero === null;
        if (can.includes("x") && positive(0)) button("log x", axis(0), this.log[0]);
        if (can.includes("y") && positive(1)) button("log y", axis(1), this.log[1]);
      }
      if (this.data.series.some((s) => s.role === "smooth") && this.data.series.some((s) => s.role === "raw")) {
        button("smoothing", (node) => {
          this.smooth = !this.smooth;
          node.setAttribute("aria-pressed", this.smooth);
          this.draw();
        }, true);
      }
      this.back = button("reset", () => this.reset(true));
      this.back.hidden = true;
      this.figure.insertBefore(tools, this.plot);
      for (const item of this.figure.querySelectorAll(".legend li")) {
        const node = document.createElement("button");
        node.type = "button";
        node.setAttribute("aria-pressed", "true");
        node.append(...item.childNodes);
        node.addEventListener("click", () => {
          const i = Number(item.dataset.series);
          if (!this.hidden.delete(i)) this.hidden.add(i);
          node.setAttribute("aria-pressed", !this.hidden.has(i));
          this.draw();
        });
        item.replaceChildren(node);
      }
      this.output = document.createElement("output");
      this.output.className = "readout";
      this.figure.appendChild(this.output);
      this.plot.tabIndex = 0;
      this.plot.setAttribute("role", "group");
      this.plot.setAttribute("aria-label", `${this.title}: arrow keys read the points, plus and minus zoom, 0 resets`);
    }

    listen() {
      const place = (event) => {
        const box = this.svg.getBoundingClientRect();
        return ((event.clientX - box.left) * this.width) / box.width - this.left;
      };
      let start = null;
      this.plot.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        start = place(event);
      });
      this.plot.addEventListener("pointermove", (event) => {
        const x = place(event);
        if (start !== null && event.buttons && event.pointerType === "mouse") this.drag(start, x);
        else this.read(this.nearest(x));
      });
      this.plot.addEventListener("pointerup", (event) => {
        const x = place(event);
        if (start !== null && Math.abs(x - start) > 8 && event.pointerType === "mouse") {
          this.zoom(Math.min(start, x) / this.wide, Math.max(start, x) / this.wide);
        } else this.read(this.nearest(x));
        start = null;
      });
      this.plot.addEventListener("pointerleave", () => {
        start = null;
        this.read(null);
      });
      this.plot.addEventListener("dblclick", () => this.reset(true));
      this.plot.addEventListener("blur", () => this.read(null));
      this.plot.addEventListener("keydown", (event) => {
        const keys = {
          ArrowLeft: () => this.move(-1), ArrowRight: () => this.move(1),
          Home: () => this.read(0), End: () => this.read(this.stops().length - 1),
          "+": () => this.nearby(0.5), "=": () => this.nearby(0.5), "-": () => this.nearby(2),
          0: () => this.reset(true), Escape: () => this.read(null),
        };
        if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
        event.preventDefault();
        keys[event.key]();
      });
    }

    x(value) { return this.along(value, 0) * this.wide; }
    y(value) { return (1 - this.along(value, 1)) * this.high; }
    along(value, i) {
      if (this.log[i]) {
        if (!(value > 0)) return null;
        value = Math.log10(value);
      }
      const [low, high] = [this.view[2 * i], this.view[2 * i + 1]];
      return (value - low) / (high - low);
    }

    shown() {
      return this.data.series.filter((s, i) => {
        if (s.role === "smooth") return this.smooth && !this.hidden.has(i);
        if (s.role === "raw" && !s.listed) return !this.hidden.has(i + 1); // goes with the smoothed one after it
        return !this.hidden.has(i);
      });
    }

    // All x values where something can be read, in order.
    stops() {
      const all = new Set();
      for (const s of this.shown()) {
        for (const [x, y] of s.points) {
          const at = this.along(x, 0);
          if (y !== null && at !== null && at >= -1e-9 && at <= 1 + 1e-9) all.add(x);
        }
      }
      return [...all].sort((a, b) => a - b);
    }

    nearest(px) {
      const stops = this.stops();
      let best = null;
      stops.forEach((x, i) => {
        const away = Math.abs(this.x(x) - px);
        if (best === null || away < best[1]) best = [i, away];
      });
      return best && best[0];
    }

    move(by) {
      const n = this.stops().length;
      if (!n) return;
      const from = this.at === null ? (by > 0 ? -1 : n) : this.at;
      this.read(Math.min(Math.max(from + by, 0), n - 1));
    }

    read(i) {
      this.at = i;
      this.svg.querySelector(".cursor")?.remove();
      const stops = i === null ? [] : this.stops();
      if (i === null || !stops.length) {
        this.output.textContent = "";
        return;
      }
      const x = stops[i];
      const group = make("g", { class: "cursor" }, this.svg);
      const at = this.left + this.x(x);
      make("path", { d: `M${at} ${this.top}V${this.top + this.high}`, stroke: "currentColor", "stroke-opacity": 0.5 }, group);
      const texts = [];
      for (const s of this.shown()) {
        let best = null;
        for (const p of s.points) {
          if (p[1] === null) continue;
          const away = Math.abs(this.x(p[0]) - this.x(x));
          if (best === null || away < best[0]) best = [away, p];
        }
        if (best === null || best[0] > this.wide / 40) continue;
        const y = this.y(best[1][1]);
        if (y >= 0 && y <= this.high) {
          make("circle", { cx: this.left + this.x(best[1][0]), cy: this.top + y, r: 4, style: `fill:var(--${s.tone})` }, group);
        }
        texts.push([best[0], `${s.name} ${number(best[1][1], 4)}`]);
      }
      texts.sort((a, b) => a[0] - b[0]);
      const more = texts.length > 5 ? `, and ${texts.length - 5} more` : "";
      const where = x === this.data.zero ? 0 : x;
      this.output.textContent =
        `${this.data.labels[0]} ${number(where)}: ` + texts.slice(0, 5).map((t) => t[1]).join(", ") + more;
    }

    drag(from, to) {
      this.read(null);
      this.svg.querySelector(".drag")?.remove();
      const [a, b] = [Math.max(Math.min(from, to), 0), Math.min(Math.max(from, to), this.wide)];
      make("rect", {
        class: "drag", x: this.left + a, y: this.top, width: Math.max(b - a, 0), height: this.high,
        fill: "currentColor", "fill-opacity": 0.1,
      }, this.svg);
    }

    zoom(from, to) {
      const [x0, x1] = this.view;
      from = Math.max(from, 0);
      to = Math.min(to, 1);
      if (to - from < 1e-6) return;
      this.view[0] = x0 + from * (x1 - x0);
      this.view[1] = x0 + to * (x1 - x0);
      this.fit();
      this.back.hidden = false;
      this.draw();
    }

    nearby(factor) {
      const stops = this.stops();
      const middle = this.at === null || !stops.length ? 0.5 : this.along(stops[this.at], 0);
      const [x0, x1] = this.view;
      const half = ((x1 - x0) * factor) / 2;
      let [low, high] = [x0 + middle * (x1 - x0) - half, x0 + middle * (x1 - x0) + half];
      const whole = this.whole(0);
      [low, high] = [Math.max(low, whole[0]), Math.min(high, whole[1])];
      if (high - low < 1e-9 * Math.abs(whole[1] - whole[0])) return;
      this.view[0] = low;
      this.view[1] = high;
      this.fit();
      this.back.hidden = false;
      this.at = null;
      this.draw();
    }

    // After a zoom along x, y shows what is there and was not out of the picture before.
    fit() {
      const [low, high] = this.whole(1);
      const seen = [];
      for (const s of this.shown()) {
        for (const [x, y] of s.points) {
          const at = this.along(x, 0);
          if (y === null || at === null || at < 0 || at > 1) continue;
          if (this.log[1] && !(y > 0)) continue;
          const v = this.log[1] ? Math.log10(y) : y;
          if (v >= low && v <= high) seen.push(v);
        }
      }
      if (!seen.length) return;
      const [a, b] = [Math.min(...seen), Math.max(...seen)];
      const margin = 0.08 * (b - a) || 0.05 * Math.abs(a) || 1;
      this.view[2] = a - margin;
      this.view[3] = b + margin;
    }

    whole(i) {
      let [low, high] = this.data.view.slice(2 * i, 2 * i + 2);
      if (this.log[i] === this.data.log[i]) return [low, high];
      if (!this.log[i]) return [10 ** low, 10 ** high];
      const values = this.data.series.flatMap((s) => s.points.map((p) => p[i])).filter((v) => v > 0);
      const least = Math.log10(Math.min(...values));
      high = high > 0 ? Math.log10(high) : Math.log10(Math.max(...values));
      low = low > 0 ? Math.log10(low) : least - (i ? 0.04 * (high - least) : 0);
      return high > low ? [low, high] : [low - 0.5, low + 0.5];
    }

    reset(scales = false) {
      if (scales) {
        this.back.hidden = true;
      }
      this.view = [...this.whole(0), ...this.whole(1)];
      this.back.hidden = true;
      this.at = null;
      this.draw();
    }

    draw() {
      const svg = this.svg;
      svg.replaceChildren();
      this.output.textContent = "";
      const [x0, x1, y0, y1] = this.view;
      const bottom = this.top + this.high;
      const same = this.log[0] === this.data.log[0] && x0 === this.data.view[0] && x1 === this.data.view[1];
      const across = same && this.data.ticks ? this.data.ticks : ticks(x0, x1, this.log[0]);
      for (const [value, label] of across) {
        const x = this.left + this.x(value);
        this.rule(x, this.top, x, bottom);
        this.text(x, bottom + 17, label, "middle");
      }
      for (const [value, label] of ticks(y0, y1, this.log[1])) {
        const y = this.top + this.y(value);
        this.rule(this.left, y, this.width - this.right, y);
        this.text(this.left - 8, y + 4, label, "end");
      }
      const inner = make("svg", { x: this.left, y: this.top, width: this.wide, height: this.high, overflow: "hidden" }, svg);
      for (const [low, high, tone] of this.data.bands) {
        const a = Math.max(this.x(low), 0);
        const b = Math.min(this.x(high), this.wide);
        if (b > a) make("rect", { x: a, y: 0, width: b - a, height: this.high, style: `fill:var(--${tone})`, "fill-opacity": 0.12 }, inner);
      }
      for (const s of this.shown()) this.line(s, inner);
      for (const [value, label, tone] of this.data.marks) {
        const at = this.x(value);
        if (!(at >= 0 && at <= this.wide)) continue;
        const x = this.left + at;
        make("path", { d: `M${x} ${this.top - 4}V${bottom}`, style: `stroke:var(--${tone})`, "stroke-width": 1.5 }, svg);
        const anchor = at < this.wide * 0.12 ? "start" : at > this.wide * 0.88 ? "end" : "middle";
        const node = this.text(x, this.top - 9, label, anchor);
        node.style.fill = `var(--${tone})`;
        node.setAttribute("font-weight", 600);
      }
      this.text(this.left + this.wide / 2, this.height - 8, this.data.labels[0], "middle");
      this.text(this.left - 50, 12, this.data.labels[1], "start");
    }

    line(s, parent) {
      const colour = `stroke:var(--${s.tone})`;
      const limit = (v) => Math.min(Math.max(v, -1e4), 1e4).toFixed(1);
      const places = s.points.map(([x, y]) => {
        if (x === null || y === null || this.along(x, 0) === null || this.along(y, 1) === null) return null;
        return `${limit(this.x(x))} ${limit(this.y(y))}`;
      });
      const raw = s.role === "raw" && this.smooth;
      if (s.look !== "dots") {
        const d = places.map((p, i) => p && (i && places[i - 1] ? "L" : "M") + p).filter(Boolean).join("");
        const thin = s.look === "thin" && (raw || s.role !== "raw");
        make("path", {
          d, fill: "none", style: colour, "stroke-width": thin ? 1 : s.role === "raw" ? 1.2 : 2,
          "stroke-opacity": thin ? 0.45 : 1, "stroke-linejoin": "round", "stroke-dasharray": s.dashed ? "5 4" : "none",
        }, parent);
      }
      if (s.look === "dots" || s.look === "both") {
        const d = places.filter(Boolean).map((p) => `M${p}h0`).join("");
        make("path", {
          d, fill: "none", style: colour, "stroke-width": s.role === "raw" ? 5 : 8,
          "stroke-opacity": raw ? 0.5 : 1, "stroke-linecap": "round",
        }, parent);
      }
    }

    rule(x1, y1, x2, y2) {
      make("path", { d: `M${x1} ${y1}L${x2} ${y2}`, stroke: "currentColor", "stroke-opacity": 0.13 }, this.svg);
    }

    text(x, y, text, anchor) {
      return make("text", { x, y, "text-anchor": anchor, "fill-opacity": 0.8 }, this.svg, text);
    }
  }

  for (const figure of document.querySelectorAll("figure.chart")) new Chart(figure);

  for (const block of document.querySelectorAll(".code")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    const name = block.closest("details")?.querySelector("summary").textContent || "the command";
    button.setAttribute("aria-label", `Copy ${name}`);
    button.addEventListener("click", async () => {
      const text = block.querySelector("code").textContent;
      let copied = true;
      try {
        await navigator.clipboard.writeText(text);
      } catch {
        // A page opened as a file may have no clipboard of its own.
        const area = document.createElement("textarea");
        area.value = text;
        document.body.appendChild(area);
        area.select();
        copied = document.execCommand("copy");
        area.remove();
      }
      button.textContent = copied ? "Copied" : "Select and copy";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    block.appendChild(button);
  }

  for (const table of document.querySelectorAll("table[data-sort]")) {
    [...table.tHead.rows[0].cells].forEach((cell, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...cell.childNodes);
      cell.appendChild(button);
      button.addEventListener("click", () => {
        const down = cell.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        cell.setAttribute("aria-sort", down ? "descending" : "ascending");
        const value = (row) => {
          const text = row.cells[i].textContent.replaceAll(",", "").replaceAll("−", "-");
          const parts = text.match(/^(-?[\d.]+)?(?: × )?(?:10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?$/);
          if (!parts || text === "") return text;
          const power = parts[2] ? Number([...parts[2]].map((c) => (c === "⁻" ? "-" : "⁰¹²³⁴⁵⁶⁷⁸⁹".indexOf(c))).join("")) : 0;
          return Number(parts[1] || 1) * 10 ** power;
        };
        const rows = [...table.tBodies[0].rows].map((row) => [value(row), row]);
        const order = (a, b) => {
          if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
          return a < b ? -1 : a > b ? 1 : 0;
        };
        rows.sort((a, b) => (down ? -1 : 1) * order(a[0], b[0]));
        table.tBodies[0].append(...rows.map((pair) => pair[1]));
      });
    });
  }
})();
