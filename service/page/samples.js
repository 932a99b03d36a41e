// Thumbnails of the images that the model was exported with, to click on.

import { Failure, sample } from "./service.js";

const MOST = 12;

const shelf = document.getElementById("samples");

let shown = null; // the model whose samples are there

/** Show those of `model`, none where it has none; `take(file)` gets the one that is clicked. */
export async function showSamples(model, take) {
  if (shown === model) return;
  shown = model;
  clear();
  const numbers = Array.from({ length: Math.min(model.samples, MOST) }, (_, i) => i);
  const files = await Promise.all(numbers.map((number) => sample(model, number).catch(noneFor)));
  if (shown !== model) return; // overtaken by another model
  clear();
  shelf.append(...files.filter(Boolean).map((file) => thumbnail(file, take)));
  shelf.hidden = !shelf.childElementCount;
}

function noneFor(error) {
  if (!(error instanceof Failure)) throw error;
  return null;
}

function clear() {
  for (const image of shelf.querySelectorAll("img")) URL.revokeObjectURL(image.src);
  shelf.replaceChildren();
  shelf.hidden = true;
}

function thumbnail(file, take) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet thumbnail";
  const image = button.appendChild(document.createElement("img"));
  image.src = URL.createObjectURL(file);
  image.alt = file.name;
  button.addEventListener("click", () => take(file));
  return button;
}
