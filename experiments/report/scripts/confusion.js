// The images behind a cell of the confusion matrix. `known`: see confusion.py.
var place = {}, n = 0, k = known.scale;
Object.keys(known.cells).forEach(function (cell) {
  place[cell] = known.cells[cell].map(function () { return n++; });
});
var style = document.createElement("style");
style.textContent = "#cell-images span { width: " + k * known.width + "px;"
  + " height: " + k * known.height + "px; background-image: url(" + known.sheet + "); background-size: " + k * known.width * known.columns + "px "
  + k * known.height * known.rows + "px; print-color-adjust: exact; }";
document.head.appendChild(style);
function show(cell) {
  var pair = cell.split(","), label = known.names[pair[0]], answer = known.names[pair[1]];
  var shown = document.getElementById("cell-images"), some = known.cells[cell] || [];
  document.getElementById("cell-name").textContent = label + (pair[0] === pair[1] ? " answered rightly"
    : " taken for " + answer) + ": " + some.length + " of " + (known.counts[cell] || 0) + " images";
  shown.textContent = "";
  some.forEach(function (number, i) {
    var at = place[cell][i], image = document.createElement("span");
    image.setAttribute("role", "img");
    image.setAttribute("aria-label", known.part + " image " + number + ": " + label + ", answer " + answer);
    image.title = known.part + " image " + number;
    image.style.backgroundPosition = -k * known.width * (at % known.columns) + "px "
      + -k * known.height * Math.floor(at / known.columns) + "px";
    shown.appendChild(image);
  });
  document.querySelectorAll("button[data-cell]").forEach(function (button) {
    button.setAttribute("aria-pressed", String(button.dataset.cell === cell));
  });
}
document.querySelectorAll("button[data-cell]").forEach(function (button) {
  button.addEventListener("click", function () { show(button.dataset.cell); });
});
show(known.first);
