// The page: a socket that brings frames and takes commands, and what each frame looks like.
import { Pad } from "./pad.js";
import { Synapses, colouring, drawCurve, drawImages, drawMaps } from "./pictures.js";

const $ = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const whole = (n) => n.toLocaleString("en");
const samples = (n) => `${whole(n)} sample${n === 1 ? "" : "s"}`;
const power = (log2) => (log2 < 0 ? `1/${2 ** -log2}` : `${2 ** log2}`);
const LESSON = 5; // drawings
const still = matchMedia("(prefers-reduced-motion: reduce)");

let socket;
let about;
let colours;
let frame;
let label = null; // what the visitor says that his drawing is
let synapses = [];
let bands = [];
let drawn = "";

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** Change a text only where it differs, so that nothing is read aloud twice. */
function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// --- the socket ---------------------------------------------------------------------------------------

function tell(what, values = {}) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ do: what, ...values }));
}

function connect() {
  const address = new URL("socket", location.href);
  address.protocol = "ws:";
  socket = new WebSocket(address);
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.about) begin(message.about, message.colours);
    if (message.frame) next(message.frame);
    if (message.error) complain(message.error);
  };
  socket.onopen = () => {
    document.body.classList.add("connected");
    put($("connection"), "connected");
    $("gone").hidden = true;
  };
  socket.onclose = ({ code }) => {
    document.body.classList.remove("connected", "training");
    put($("connection"), "not connected");
    $("gone").hidden = false;
    put($("gone"), code === 1001
      ? "The program was ended, and has written what was learned to a run folder: its terminal says which."
      : "The program does not answer. This page goes on as soon as it does.");
    if (code !== 1001) setTimeout(connect, 1000);
  };
}

let complaint;
function complain(text) {
  $("problem").hidden = false;
  put($("problem"), text);
  clearTimeout(complaint);
  complaint = setTimeout(() => { $("problem").hidden = true; put($("problem"), ""); }, 7000);
}

// --- what does not change -----------------------------------------------------------------------------

function begin(found, ramps) {
  about = found;
  colours = {
    values: colouring(ramps.values, about.activation_max, false),
    errors: colouring(ramps.errors, about.error_max, true),
  };
  document.body.classList.toggle("watched", about.kind === "watched");
  $("watched").hidden = about.kind !== "watched";
  const how = about.rules.batch === 1 || about.rules.pipelined ? "one sample at a time" : `${about.rules.batch} samples an update`;
  put($("about"), `${about.network} on ${about.data} · ${whole(about.weights)} weights, bits ${about.bits} · ${about.kind === "watched"
    ? about.run : `engine ${about.engine}, ${about.rules.update} updates, ${how}`}`);
  put($("known-title"), about.kind === "watched" ? "What it knows" : "What they know");
  put($("pace-unit"), about.rules.batch === 1 || about.rules.pipelined ? "samples a second" : "batches a second");
  if (about.kind === "session") steering();
  bands = [];
  $("flow").replaceChildren(band("Input", 0), ...about.layers.slice(0, -1).map((name, i) => band(`Layer ${i}: ${name}`, i + 1)), outputs());
  synapses = about.layers.map((name, i) => {
    const canvas = make("canvas");
    canvas.setAttribute("role", "img");
    const text = make("figcaption", { className: "note" });
    return { name, text, canvas, picture: new Synapses(canvas), figure: make("figure", { className: i ? "" : "wide-one" }, text, canvas) };
  });
  $("synapses").replaceChildren(...synapses.map((each) => each.figure));
  knowledge();
  pad.draw();
}

function steering() {
  $("which-classes").replaceChildren(...Array.from({ length: about.classes }, (_, c) => chip("checkbox", "which", c, () => {
    const which = [...document.querySelectorAll("input[name=which]:checked")].map((input) => +input.value);
    if (which.length) tell("classes", { which });
    else { complain("learn only: want one class or more"); show(); }
  })));
  $("looked").replaceChildren($("looked").firstElementChild, ...about.learners.map((name, i) => {
    const made = chip("radio", "looked", i, () => tell("look", { learner: i }));
    put(made.lastElementChild, name);
    return made;
  }));
  $("formats").replaceChildren(...about.learners.map((name) => make("b", {}, name)), ...["checkpoint", ...about.formats].flatMap((to) =>
    about.learners.map((name, i) => make("a", { href: `${i}/${to}`, download: "", ariaLabel: `${to}, ${name}` }, to))));
}

function chip(type, name, value, chosen) {
  const input = make("input", { type, name, value });
  input.addEventListener("change", chosen);
  return make("label", {}, input, make("span", {}, `${value}`));
}

function band(title, i) {
  const up = make("canvas", { className: "band-up" });
  const down = make("canvas", { className: "band-down" });
  for (const canvas of [up, down]) canvas.setAttribute("role", "img");
  const head = make("h3", {}, make("span", {}, title));
  const made = { up, down, upText: make("p", { className: "note" }), downText: make("p", { className: "note" }) };
  const node = make("div", { className: "band" }, head, made.upText, up);
  if (i) {
    head.append(freezer(i - 1));
    node.append(made.downText, down);
  } else if (about.memory) {
    const images = make("canvas", { id: "memory-images", ariaLabel: "Some of the samples that are kept in the memory" });
    images.setAttribute("role", "img");
    node.append(make("div", { id: "memory" }, make("h3", {}, "Memory"), make("p", { id: "memory-text", className: "note" }), images));
    held = "";
  }
  bands[i] = { ...made, node };
  return node;
}

function freezer(layer) {
  const button = make("button", { type: "button", className: "freeze steering", ariaLabel: `Freeze layer ${layer}` }, "Freeze");
  button.addEventListener("click", () => tell("freeze", { layer, on: !frame.frozen[layer] }));
  return button;
}

function outputs() {
  const last = about.layers.length - 1;
  const head = make("h3", {}, make("span", {}, `Layer ${last}: ${about.layers[last]}`), freezer(last));
  const table = make("table", { id: "outputs" });
  const columns = [["class", ""], ["answer", "bar-cell"], ["sum", "number"], ["error", "number"]];
  table.append(make("thead", {}, make("tr", {}, ...columns.map(([text, className]) => make("th", { scope: "col", className }, text)))), make("tbody"));
  const node = make("div", { className: "band outputs" }, head, make("p", { id: "answer" }), table);
  bands[about.layers.length] = { node };
  return node;
}

function knowledge() {
  const heads = ["class", "right answers", ...about.learners.map((name) => (about.learners.length > 1 ? name.replace(" memory", "") : "%"))];
  $("classes").tHead.replaceChildren(make("tr", {}, ...heads.map((text, i) => make("th", { scope: "col", className: i > 1 ? "number" : "" }, text))));
  put($("classes-note"), `Share of ${whole(about.measured)} images that are never learned, by class; of a new class, of the drawings that are kept.`);
  $("overall").replaceChildren(...about.learners.map((name, i) => make("div", { className: `series${about.learners.length > 1 ? i : 1}` }, make("b"), name)));
}

// --- a frame ------------------------------------------------------------------------------------------

let waiting = false;
function next(found) {
  frame = found;
  if (!waiting) {
    waiting = true;
    requestAnimationFrame(() => { waiting = false; show(); });
  }
}

function show() {
  if (about.kind === "session") showSteering();
  else showWatching();
  showLabels();
  showInside();
  showSynapses();
  showKnowledge();
}

function showSteering() {
  const training = frame.training || frame.lesson;
  document.body.classList.toggle("training", Boolean(training));
  put($("train"), frame.training ? "Pause" : "Train");
  $("train").setAttribute("aria-pressed", frame.training);
  $("train").disabled = Boolean(frame.lesson);
  for (const input of document.querySelectorAll("input[name=pace]")) input.checked = input.value === String(frame.pace ?? "");
  for (const input of document.querySelectorAll("input[name=which]")) input.checked = frame.which.includes(+input.value);
  for (const input of document.querySelectorAll("input[name=looked]")) input.checked = +input.value === frame.looked;
  if (document.activeElement !== $("eta")) $("eta").value = frame.log2_eta;
  put($("eta-value"), power(frame.log2_eta));
  $("eta").setAttribute("aria-valuetext", power(frame.log2_eta));
  document.querySelectorAll(".freeze").forEach((button, i) => {
    button.setAttribute("aria-pressed", frame.frozen[i]);
    put(button, frame.frozen[i] ? "❄ Frozen" : "Freeze");
    bands[i + 1].node.classList.toggle("frozen", frame.frozen[i]);
  });
  put($("connection"), frame.lesson ? `lesson: ${samples(frame.lesson.left)} left`
    : frame.training ? `training, ${samples(frame.samples)}` : `at rest, ${samples(frame.samples)}`);
  $("follow").disabled = frame.look.source === "stream";
  const mine = frame.kept.filter((each) => each.label === label).length;
  const named = label === null ? "" : frame.names[label];
  $("learn").disabled = label === null || Boolean(frame.lesson);
  $("keep").disabled = label === null || frame.look.source !== "drawing" || !pad.strokes.length || Boolean(frame.lesson);
  $("teach").disabled = !mine || Boolean(frame.lesson);
  $("back").disabled = !frame.undo;
  put($("back"), `Undo ${frame.undo ?? "the lesson"}`);
  put($("teach"), mine ? `Teach ${named}, ${mine} × 20` : "Teach");
  put($("keep"), label === null ? "Keep for a lesson" : `Keep as ${named}`);
  $("intro").hidden = frame.samples > 0;
  put($("save"), frame.saved ? "Saved" : "Save");
  $("where").hidden = !frame.saved;
  put($("where"), frame.saved ? `in ${frame.saved}` : "");
  showKept();
  showVerdict();
}

function showWatching() {
  const [done, of] = frame.epochs;
  put($("watching"), `Watching ${about.run}: ${done} of ${of ?? "?"} epochs, ${whole(frame.updates[0])} updates; ${
    frame.writing ? "another command trains it, and each new checkpoint appears here" : "nobody trains it now"}.`);
}

function showLabels() {
  const text = frame.names.join("\n") + label;
  if ($("labels").dataset.text === text) return;
  $("labels").dataset.text = text;
  $("labels").replaceChildren(...frame.names.map((name, c) => {
    const made = chip("radio", "label", c, () => choose(c));
    put(made.lastElementChild, name);
    made.classList.toggle("new", c >= about.classes);
    made.firstElementChild.checked = c === label;
    return made;
  }));
  if (refocus) document.querySelector("input[name=label]:checked")?.focus();
  refocus = false;
  if (document.activeElement !== $("name")) $("name").value = label === null ? "" : frame.names[label];
  $("rename").hidden = label === null || label < about.classes;
}

let refocus = false;
function choose(c) {
  refocus = document.activeElement?.name === "label";
  label = c;
  send();
  show();
}

function showKept() {
  const mine = frame.kept.map((each, place) => ({ ...each, place }));
  const text = JSON.stringify(mine.map(({ label: of, image }) => [of, frame.names[of], image.data]));
  if (text === drawn) return;
  drawn = text;
  const rows = mine.map(({ label: of, image, place }) => {
    const canvas = make("canvas");
    const button = make("button", { type: "button", ariaLabel: `Drop drawing ${place + 1}, ${frame.names[of]}`, title: "drop" }, canvas);
    button.addEventListener("click", () => tell("drop", { place }));
    drawImages(canvas, { ...image, shape: [1, ...image.shape] });
    return make("li", {}, button, frame.names[of]);
  });
  const empty = Math.max(0, LESSON - rows.length);
  $("kept").replaceChildren(...rows, ...Array.from({ length: empty }, () => make("li", { ariaHidden: "true" }, make("div", { className: "empty" }))));
}

function showVerdict() {
  const { verdict } = frame;
  const text = JSON.stringify(verdict);
  if ($("verdict").dataset.text === text) return;
  $("verdict").dataset.text = text;
  if (!verdict) return $("verdict").replaceChildren();
  const falls = (before, after) => `${(100 * before).toFixed(1)} → ${percent(after)}`;
  const rows = verdict.learners.map(({ name, right, before, after, lost: [worst] }) => make("tr", {}, make("th", { scope: "row" }, name),
    ...[`${right} of ${verdict.drawings}`, falls(before, after), worst ? `${frame.names[worst[0]]}: ${Math.round(100 * worst[1])} → ${Math.round(100 * worst[2])} %` : "nothing"].map((cell) => make("td", {}, cell))));
  const heads = ["", frame.names[verdict.label], "all else", "lost most"].map((head) => make(head ? "th" : "td", head ? { scope: "col" } : {}, head));
  $("verdict").replaceChildren(make("table", {}, make("caption", {}, `After the lesson on ${frame.names[verdict.label]}`),
    make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows)));
}

function showInside() {
  const { look } = frame;
  const names = frame.names;
  const what = { stream: frame.lately > 1 ? `The first of ${whole(frame.lately)} samples that were just learned` : "The sample that was just learned", example: "An image that is never learned", drawing: "Your drawing, as the network sees it" }[look.source];
  put($("shown"), look.label === null ? `${what}. Say what it is, and an error comes back.` : `${what}: ${names[look.label]}.`);
  look.bands.slice(0, -1).forEach((found, i) => {
    const { up, upText, downText, down } = bands[i];
    drawMaps(up, found.values, i || about.input[2] !== 3 ? colours.values : colours.errors, { numbers: true });
    const count = `${whole(found.values.spikes)} of ${whole(found.values.neurons)}`;
    put(upText, i ? `↑ ${count} send` : `↑ ${count} pixels`);
    up.setAttribute("aria-label", `${i ? `Activations of layer ${i - 1}` : "Input"}: ${count} not zero`);
    if (!i) return;
    down.hidden = !found.errors;
    put(downText, found.errors ? `↓ ${whole(found.errors.spikes)} of ${whole(found.errors.neurons)} errors` : "\u00a0");
    if (found.errors) drawMaps(down, found.errors, colours.errors, { numbers: true });
    down.setAttribute("aria-label", `Errors of layer ${i - 1}: ${found.errors?.spikes ?? 0} not zero`);
  });
  showMemory();
  showOutputs(look);
}

const ACROSS = 10; // images of the memory
let held = "";
function showMemory() {
  const memory = frame.memory;
  if (!memory || memory.images.data === held) return;
  held = memory.images.data;
  put($("memory-text"), `${whole(memory.held)} of ${whole(about.memory.samples)} samples, ${whole(about.memory.bytes)} bytes`);
  drawImages($("memory-images"), memory.images, ACROSS);
}

function showOutputs(look) {
  const last = look.bands.at(-1);
  const errors = last.errors ? unpackedErrors(last.errors) : null;
  const top = Math.max(look.target * 1.35, ...look.logits);
  const body = $("outputs").tBodies[0];
  while (body.rows.length < look.logits.length) {
    const meter = make("div", { className: "meter" }, make("i"), make("u"));
    body.append(make("tr", {}, make("th", { scope: "row" }), make("td", { className: "bar-cell" }, meter), make("td", { className: "number" }), make("td", { className: "number" })));
  }
  look.logits.forEach((logit, c) => {
    const row = body.rows[c];
    const [bar, target] = row.cells[1].firstElementChild.children;
    put(row.cells[0], frame.names[c]);
    bar.style.width = `${(100 * Math.max(0, logit)) / top}%`;
    target.style.left = `${(100 * look.target) / top}%`;
    put(row.cells[2], whole(logit));
    put(row.cells[3], errors ? `${errors[c] > 0 ? "+" : errors[c] < 0 ? "−" : ""}${Math.abs(errors[c])}` : "");
    row.classList.toggle("answer", c === look.answer);
  });
  const right = look.label === null ? "" : look.label === look.answer ? "right" : `it is ${frame.names[look.label]}`;
  const text = `${frame.names[look.answer]}|${right}|${look.no_error}`;
  if ($("answer").dataset.text === text) return;
  $("answer").dataset.text = text;
  const tag = right ? [" ", make("span", { className: `tag ${right === "right" ? "right" : ""}` }, right === "right" ? "✓ right" : `✗ ${right}`)] : [];
  const quiet = make("span", { className: "note" }, look.no_error ? `no error: ${look.no_error.replace("the right output", "it")}` : "\u00a0");
  $("answer").replaceChildren("answer ", make("b", {}, frame.names[look.answer]), ...tag, quiet);
  if (look.source !== "stream") speak(`The answer is ${frame.names[look.answer]}${right ? `, ${right}` : ""}`);
  if (look.source !== "stream" || (frame.pace && frame.pace <= 5 && !frame.lesson)) sweep(Boolean(errors));
}

function unpackedErrors({ data }) {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  return new Int16Array(bytes.buffer);
}

let speaking;
function speak(text) {
  clearTimeout(speaking);
  speaking = setTimeout(() => put($("say"), text), 700);
}

/** Light up what integers pass, up and then down. */
function sweep(back) {
  if (still.matches) return;
  const way = bands.map((each) => [each.up ?? $("outputs"), ""]);
  if (back) way.push(...bands.slice(1).reverse().map((each) => [each.down ?? $("outputs"), " back"]));
  way.forEach(([node, more], i) => {
    node.classList.remove("lit", "back");
    void node.offsetWidth;
    node.style.setProperty("--after", `${0.13 * i}s`);
    setTimeout(() => node.classList.add(...`lit${more}`.split(" ")), 0);
  });
}

function showSynapses() {
  let all = 0;
  frame.moved.forEach((layer, i) => {
    const { text, canvas, picture, name } = synapses[i];
    all += layer.up + layer.down;
    const part = layer.V.shape[0] < layer.neurons ? `, ${layer.V.shape[0]} of ${layer.neurons} neurons` : "";
    put(text, `${name}${part}: ▲ ${whole(layer.up)} ▼ ${whole(layer.down)} stored, ${whole(layer.flipped)} visible`);
    canvas.setAttribute("aria-label", `Synapses of layer ${i}: ${layer.up} stored weights up, ${layer.down} down, ${layer.flipped} visible weights changed`);
    picture.draw(layer);
  });
  const by = about.kind === "watched" ? "since the checkpoint before" : frame.lately > 1 ? `by the last ${whole(frame.lately)} samples` : "by the last sample";
  put($("moves"), `${whole(all)} moved ${by}`);
}

function showKnowledge() {
  [...$("overall").children].forEach((node, i) => put(node.firstElementChild, percent(frame.overall[i])));
  const marks = frame.marks ?? [];
  const from = frame.known && marks.length ? marks.at(-1)[0] : 0; // a lesson is short beside the training before it
  drawCurve($("curve"), frame.curve, about.learners, marks, from, about.kind === "watched" ? "epoch" : "sample");
  const body = $("classes").tBodies[0];
  const columns = about.learners.length;
  while (body.rows.length < frame.names.length) {
    const pair = make("div", { className: columns > 1 ? "pair" : "pair one" }, ...about.learners.map((_, i) => make("span", { className: `bar${i}` }, make("i"), make("u", { hidden: true }))));
    body.append(make("tr", {}, make("th", { scope: "row" }), make("td", { className: "share" }, pair), ...about.learners.map(() => make("td", { className: "number" }))));
  }
  frame.names.forEach((name, c) => {
    const row = body.rows[c];
    row.hidden = c >= about.classes && frame.accuracy.every((each) => each[c] === null);
    put(row.cells[0], name);
    about.learners.forEach((_, i) => {
      const share = frame.accuracy[i][c];
      const [bar, was] = row.cells[1].firstElementChild.children[i].children;
      const before = frame.known?.[i][c] ?? null;
      const fell = before !== null && share !== null && before - share > 0.05;
      bar.style.width = `${100 * (share ?? 0)}%`;
      was.hidden = !fell;
      if (fell) was.style.left = `calc(${100 * before}% - 2px)`;
      put(row.cells[2 + i], share === null ? "–" : `${fell ? "▼ " : ""}${Math.round(100 * share)} %`);
      row.cells[2 + i].classList.toggle("fell", fell);
    });
  });
}

// --- what the visitor does ----------------------------------------------------------------------------

let sending = 0;
function send() {
  clearTimeout(sending);
  sending = setTimeout(() => tell("draw", { strokes: pad.strokes.filter((stroke) => stroke.length), label }), 25);
}

const pad = new Pad($("pad"), send);
const click = (id, done) => $(id).addEventListener("click", done);
click("train", () => tell("train", { on: !frame.training }));
click("clear", () => pad.clear());
click("example", () => tell("example"));
click("follow", () => tell("follow"));
click("learn", () => tell("learn", { label }));
click("keep", () => { tell("keep", { label }); pad.clear(); $("pad").focus({ preventScroll: true }); });
click("teach", () => tell("teach", { label }));
click("back", () => tell("back"));
click("save", () => tell("save"));
click("restart", () => tell("restart"));
$("eta").addEventListener("input", () => tell("eta", { log2: +$("eta").value }));
$("pace").addEventListener("change", ({ target }) => tell("pace", { samples: target.value ? +target.value : null }));
$("name").addEventListener("change", () => { if (label !== null) tell("name", { label, text: $("name").value }); });
addEventListener("resize", () => frame && show());
document.addEventListener("click", (event) => { if (!$("export").contains(event.target)) $("export").open = false; });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") $("export").open = false; });

connect();
