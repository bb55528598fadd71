// The matrix of a continual run as it grows, task after task. `known`: see stream.py.
var svg = document.getElementById("matrix"), after = document.getElementById("after");
var seed = document.getElementById("seed"), now = document.getElementById("now");
var play = document.getElementById("play"), timer = null;
var T = known.R[0].length, n = known.tasks.length, left = 110, side = Math.min(60, (680 - left) / n);
var bars = 90, top_ = bars + 30, high = Math.min(side, 34);
svg.setAttribute("viewBox", "0 0 680 " + (top_ + T * high + 8));
svg.setAttribute("height", top_ + T * high + 8);
function add(kind, values, text) {
  var made = document.createElementNS("http://www.w3.org/2000/svg", kind);
  Object.keys(values).forEach(function (name) { made.setAttribute(name, values[name]); });
  if (text !== undefined) { made.textContent = text; }
  svg.appendChild(made);
}
function draw() {
  var R = known.R[Number(seed.value)], t = Number(after.value), joint = T < n, so_far = joint ? n : t + 1;
  svg.textContent = "";
  var font = {"font-size": 11, fill: known.ink, "text-anchor": "end"};
  add("text", Object.assign({x: left - 8, y: 16}, font), "accuracy now");
  add("line", {x1: left, x2: left + n * side, y1: bars, y2: bars, stroke: known.ink});
  for (var j = 0; j < n; j++) {
    if (R[t][j] === null) { continue; }
    var value = R[t][j], tall = value * (bars - 18) / 100, x = left + j * side;
    var learned = j < so_far;
    add("rect", {x: x + side * 0.12, y: bars - tall, width: side * 0.76, height: tall,
      fill: learned ? known.colours[70] : "none", stroke: known.colours[70],
      "stroke-dasharray": learned ? "" : "3 2"});
    if (side >= 26) {
      var middle = {x: x + side / 2, "font-size": 10, fill: known.ink, "text-anchor": "middle"};
      add("text", Object.assign({y: bars - tall - 3}, middle), value.toFixed(1));
      add("text", Object.assign({y: bars + 14}, middle),
        known.tasks[j].length > side / 5 ? String(j + 1) : known.tasks[j]);
    }
  }
  for (var i = 0; i <= t; i++) {
    if (high >= 12) {
      var name = joint ? "all" : known.tasks[i];
      add("text", Object.assign({x: left - 8, y: top_ + (i + 0.62) * high}, font),
        name.length > 16 ? "task " + (i + 1) : name);
    }
    for (j = 0; j < n; j++) {
      var held = R[i][j];
      if (held === null) { continue; }
      add("rect", {x: left + j * side, y: top_ + i * high, width: side, height: high,
        fill: known.colours[Math.round(held)], stroke: known.paper, "stroke-width": n > 25 ? 0 : 1});
      if (side >= 26) {
        add("text", {x: left + (j + 0.5) * side, y: top_ + (i + 0.62) * high, "font-size": 10,
          "text-anchor": "middle", fill: known.inks[Math.round(held)]}, held.toFixed(1));
      }
    }
  }
  var measured = R[t].slice(0, so_far).filter(function (value) { return value !== null; });
  var sum = measured.reduce(function (a, b) { return a + b; }, 0), all = measured.length === so_far;
  now.textContent = (joint ? "all tasks learned together" : "after task " + (t + 1) + " of " + n + ", "
    + known.tasks[t]) + ": " + (sum / measured.length).toFixed(2) + " % over "
    + (all ? "the tasks so far" : "the newest " + measured.length + " of them");
}
function stop() { window.clearInterval(timer); timer = null; play.textContent = "Play"; }
play.addEventListener("click", function () {
  if (timer !== null) { stop(); return; }
  play.textContent = "Pause";
  if (Number(after.value) === T - 1) { after.value = 0; draw(); }
  timer = window.setInterval(function () {
    if (Number(after.value) >= T - 1) { stop(); return; }
    after.value = Number(after.value) + 1;
    draw();
  }, Math.max(120, Math.min(900, 9000 / T)));
});
after.addEventListener("input", function () { stop(); draw(); });
seed.addEventListener("change", draw);
draw();
