// A pad to draw on with pen, finger, mouse or keyboard; what is drawn are strokes of points in 0..1.

const LINE = 0.09;
const FAR = 0.012; // between two points
const STEP = 1 / 14; // of the keyboard's pen
const MOST = 1500; // points

export class Pad {
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.changed = changed;
    this.strokes = [];
    this.pen = null; // place of the keyboard's pen
    this.down = false;
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (this.drawing = false));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => { this.pen = null; this.draw(); });
    this.draw();
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map((v) => Math.max(0, Math.min(1, v)));
  }

  get points() { return this.strokes.reduce((sum, stroke) => sum + stroke.length, 0); }

  begin(event) {
    if (event.button) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.drawing = true;
    this.pen = null;
    this.strokes.push([this.place(event)]);
    this.update();
  }

  move(event) {
    if (!this.drawing) return;
    const stroke = this.strokes.at(-1);
    for (const each of event.getCoalescedEvents?.() ?? [event]) {
      const [x, y] = this.place(each);
      const [x0, y0] = stroke.at(-1);
      if (Math.hypot(x - x0, y - y0) >= FAR && this.points < MOST) stroke.push([x, y]);
    }
    this.update();
  }

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (move) {
      const [x, y] = this.pen ?? [0.5, 0.5];
      this.pen = [x + move[0] * STEP, y + move[1] * STEP].map((v) => Math.max(0.05, Math.min(0.95, v)));
      if (this.down && this.points < MOST) this.strokes.at(-1).push(this.pen);
    } else if (event.key === " ") {
      this.pen ??= [0.5, 0.5];
      this.down = !this.down;
      if (this.down) this.strokes.push([this.pen]);
    } else if (event.key === "Backspace" || event.key === "Delete") {
      this.clear();
    } else {
      return;
    }
    event.preventDefault();
    this.update();
  }

  clear() {
    this.strokes = [];
    this.down = false;
    this.update();
  }

  update() {
    this.draw();
    this.changed(this.strokes);
  }

  draw() {
    const context = this.canvas.getContext("2d");
    const side = this.canvas.width;
    context.clearRect(0, 0, side, side);
    context.strokeStyle = "#eceff2";
    context.lineWidth = 2;
    for (let i = 1; i < 8; i++) {
      context.beginPath();
      context.moveTo((i * side) / 8, 0);
      context.lineTo((i * side) / 8, side);
      context.moveTo(0, (i * side) / 8);
      context.lineTo(side, (i * side) / 8);
      context.stroke();
    }
    if (!this.strokes.length && !this.pen) {
      context.fillStyle = "#6b7480";
      context.font = `${side / 18}px system-ui, sans-serif`;
      context.textAlign = "center";
      context.fillText("draw a digit, or anything", side / 2, side / 2);
    }
    context.strokeStyle = context.fillStyle = "#1f2933";
    context.lineWidth = LINE * side;
    context.lineCap = context.lineJoin = "round";
    for (const stroke of this.strokes) {
      context.beginPath();
      stroke.forEach(([x, y], i) => context[i ? "lineTo" : "moveTo"](x * side, y * side));
      if (stroke.length === 1) context.lineTo(stroke[0][0] * side + 0.01, stroke[0][1] * side);
      context.stroke();
    }
    if (this.pen) {
      const [x, y] = this.pen.map((v) => v * side);
      context.strokeStyle = "#c2500b";
      context.lineWidth = 5;
      context.beginPath();
      context.arc(x, y, 20, 0, 2 * Math.PI);
      context[this.down ? "fill" : "stroke"]();
      context.stroke();
    }
  }
}
