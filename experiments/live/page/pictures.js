// Integers as pictures: layers of neurons, synapses, the curve.

const KINDS = { 1: { u: Uint8Array, i: Int8Array }, 2: { i: Int16Array } };

/** Array of {shape, data}; bytes are little-endian, `kind` their type. */
export function unpacked({ data }, kind = Int16Array) {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  return kind === Int16Array ? new Int16Array(bytes.buffer) : new kind(bytes.buffer);
}

const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
const dark = ([r, g, b]) => 0.299 * r + 0.587 * g + 0.114 * b < 140;

/** Colour of a value: nothing is white, the rest along a ramp from -top or 1 to top. */
export function colouring(ramp, top, signed) {
  const colours = ramp.map(rgb);
  const last = colours.length - 1;
  return (v) => {
    if (v === 0) return [255, 255, 255];
    const share = signed ? (Math.max(-top, Math.min(top, v)) + top) / (2 * top) : Math.min(v, top) / top;
    return colours[Math.round(share * last)];
  };
}

/** Draw {shape: [maps, rows, columns], data} into a canvas, maps side by side; numbers where there is room. */
export function drawMaps(canvas, maps, colour, { numbers = false, width = 0 } = {}) {
  const [n, h, w] = maps.shape;
  const values = unpacked(maps);
  const across = Math.max(1, Math.round(Math.sqrt((n * h) / w)));
  const gap = n > 1 ? 1 : 0;
  const columns = across * (w + gap) - gap;
  const rows = Math.ceil(n / across) * (h + gap) - gap;
  const room = (width || canvas.parentElement.clientWidth || 200) * devicePixelRatio;
  const cell = Math.max(1, Math.floor(room / columns));
  canvas.width = columns * cell;
  canvas.height = rows * cell;
  const context = canvas.getContext("2d");
  context.fillStyle = "#d5dae0";
  context.fillRect(0, 0, canvas.width, canvas.height);
  const line = cell > 7 ? 1 : 0;
  const shown = numbers && cell >= 17 * devicePixelRatio;
  context.font = `${Math.floor(cell * 0.42)}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (let i = 0; i < values.length; i++) {
    const map = Math.floor(i / (h * w));
    const x = ((map % across) * (w + gap) + (i % w)) * cell;
    const y = (Math.floor(map / across) * (h + gap) + (Math.floor(i / w) % h)) * cell;
    const found = colour(values[i]);
    context.fillStyle = `rgb(${found})`;
    context.fillRect(x, y, cell - line, cell - line);
    if (shown && values[i]) {
      context.fillStyle = dark(found) ? "#fff" : "#1f2933";
      context.fillText(values[i], x + cell / 2, y + cell / 2);
    }
  }
}

/** Images of bytes, {shape: [n, rows, columns, channels], data}, so many side by side, as dark as they are strong. */
export function drawImages(canvas, packed, across = 1) {
  const [n, h, w, c] = packed.shape;
  const bytes = unpacked(packed, Uint8Array);
  const gap = n > 1 ? 1 : 0;
  canvas.width = across * (w + gap) - gap;
  canvas.height = Math.ceil(n / across) * (h + gap) - gap;
  const context = canvas.getContext("2d");
  for (let k = 0; k < n; k++) {
    const image = context.createImageData(w, h);
    for (let i = 0; i < h * w; i++) {
      const at = c * (k * h * w + i);
      for (let j = 0; j < 3; j++) image.data[4 * i + j] = c === 3 ? bytes[at + j] : 255 - bytes[at];
      image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, (k % across) * (w + gap), Math.floor(k / across) * (h + gap));
  }
}

const WEIGHT = { "-1": rgb("#dde3e8"), 0: [255, 255, 255], 1: rgb("#b4bec8") };
const UP = rgb("#e07b00"); // each darker than the one before it, so that all five differ on grey paper
const DOWN = rgb("#0b2a80");
const still = matchMedia("(prefers-reduced-motion: reduce)");

/** Synapses of a layer, a tile a neuron; what moved lights up and fades. */
export class Synapses {
  constructor(canvas) {
    this.canvas = canvas;
    this.heat = new Float32Array(0);
  }

  draw(layer, top) {
    const [neurons, synapses] = layer.V.shape;
    const V = unpacked(layer.V, Int8Array);
    const step = unpacked(layer.step, Int8Array);
    if (this.heat.length !== V.length) this.heat = new Float32Array(V.length);
    const [h, w] = layer.tile; // an image's, a kernel's, or a row
    const gap = h > 1 || neurons === 1 ? 1 : 0;
    const across = h > 1 ? Math.max(1, Math.round(Math.sqrt((neurons * (h + 1) * 2.2) / (w + 1)))) : 1;
    const columns = across * (w + gap) + gap;
    const rows = Math.ceil(neurons / across) * (h + gap) + gap;
    const pixels = new ImageData(columns, rows);
    const fill = new Uint32Array(pixels.data.buffer);
    fill.fill(0xfff3f1f0);
    const fade = still.matches ? 0 : 0.86;
    for (let i = 0; i < V.length; i++) {
      const neuron = Math.floor(i / synapses);
      const place = i % synapses;
      const x = gap + (neuron % across) * (w + gap) + (place % w);
      const y = gap + Math.floor(neuron / across) * (h + gap) + Math.floor(place / w);
      const heat = (this.heat[i] = step[i] || this.heat[i] * fade);
      const glow = Math.abs(heat) < 0.06 ? 0 : Math.abs(heat);
      const under = WEIGHT[Math.sign(V[i])];
      const over = heat > 0 ? UP : DOWN;
      const at = 4 * (y * columns + x);
      for (let k = 0; k < 3; k++) pixels.data[at + k] = under[k] + (over[k] - under[k]) * glow;
      pixels.data[at + 3] = 255;
    }
    const scale = Math.max(1, Math.floor((this.canvas.parentElement.clientWidth * devicePixelRatio) / columns));
    const tall = h > 1 ? scale : Math.max(scale, Math.min(9 * devicePixelRatio, scale * 3));
    this.canvas.width = columns * scale;
    this.canvas.height = rows * tall;
    this.canvas.style.width = `${(columns * scale) / devicePixelRatio}px`;
    createImageBitmap(pixels).then((bitmap) => {
      const context = this.canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      context.drawImage(bitmap, 0, 0, this.canvas.width, this.canvas.height);
    });
  }
}

const SVG = "http://www.w3.org/2000/svg";
function svg(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Whole numbers between two, some steps of 1, 2 or 5 times a power of ten apart. */
function ticks(low, high) {
  const rough = Math.max(1, (high - low) / 5);
  const ten = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * ten).find((size) => size >= rough);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
}

/** Accuracy of each learner against samples: rows of [samples, accuracy ...], those after `from` alone. */
export function drawCurve(node, rows, names, marks, from, unit) {
  const { clientWidth: width, clientHeight: height } = node;
  const left = 46, right = 22, top = 8, bottom = 30;
  const shown = rows.filter(([at], i) => at >= from || (rows[i + 1]?.[0] ?? at) > from);
  const start = unit === "epoch" ? 0 : from;
  const end = Math.max(start + (unit === "epoch" ? 2 : 10), ...rows.map((row) => row[0]));
  const x = (v) => left + ((Math.max(v, start) - start) / (end - start)) * (width - left - right);
  const y = (v) => top + (1 - v) * (height - top - bottom);
  const parts = [];
  for (const share of [0, 0.5, 1]) {
    parts.push(svg("line", { class: "axis", x1: left, x2: width - right, y1: y(share), y2: y(share) }));
    parts.push(svg("text", { x: left - 6, y: y(share) + 4, "text-anchor": "end" }, `${100 * share} %`));
  }
  for (const tick of ticks(start, end)) {
    parts.push(svg("text", { x: x(tick), y: height - 14, "text-anchor": "middle" }, tick.toLocaleString("en")));
  }
  parts.push(svg("text", { x: (left + width) / 2, y: height - 1, "text-anchor": "middle" }, unit === "epoch" ? "epochs" : "new samples learned"));
  for (const [at, text] of marks.filter((mark) => mark[0] >= start).slice(-6)) {
    const place = x(at);
    parts.push(svg("line", { class: "mark", x1: place, x2: place, y1: top, y2: y(0) }));
    const late = place > width / 2;
    parts.push(svg("text", { x: place + (late ? -4 : 4), y: y(0.06), "text-anchor": late ? "end" : "start" }, text));
  }
  const styles = names.length > 1 ? [["#c2500b", "5 2"], ["#0b4f9e", ""]] : [["#0b4f9e", ""]];
  const last = shown.at(-1);
  styles.forEach(([colour, dash], i) => {
    const points = shown.map((row) => `${x(row[0]).toFixed(1)},${y(row[i + 1]).toFixed(1)}`).join(" ");
    parts.push(svg("polyline", { points, fill: "none", stroke: colour, "stroke-width": 2.2, "stroke-dasharray": dash, "stroke-linejoin": "round" }));
    if (!last) return;
    const place = { x: x(last[0]), y: y(last[i + 1]) };
    parts.push(i === 0 && names.length > 1
      ? svg("rect", { x: place.x - 4, y: place.y - 4, width: 8, height: 8, fill: colour })
      : svg("circle", { cx: place.x, cy: place.y, r: 4.5, fill: colour }));
  });
  node.setAttribute("viewBox", `0 0 ${width} ${height}`);
  node.replaceChildren(...parts);
  const said = last ? names.map((name, i) => `${name} ${(100 * last[i + 1]).toFixed(1)} %`).join(", ") : "nothing yet";
  node.setAttribute("aria-label", `Accuracy in per cent against ${unit === "epoch" ? "epochs" : "samples learned"}: ${said}`);
}
