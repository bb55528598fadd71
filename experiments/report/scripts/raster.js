// Of the rasters the chosen one is shown.
document.getElementById("raster-of").addEventListener("change", function (event) {
  document.querySelectorAll("img.raster").forEach(function (image, i) {
    image.hidden = i !== Number(event.target.value);
  });
});
