// The map of what mattered, over the picture that it is of.

import { SIDE, occlusions } from "./occlusion.js";
import { Failure } from "./service.js";

const $ = (id) => document.getElementById(id);

const percent = (p) => `${(100 * p).toFixed(1)} %`;

let underway = null; // the AbortController of the map that is being made

/** Have the button make the map of what `subject()` gives, { image, model }. */
export function offerImportance(subject) {
  $("importance-button").addEventListener("click", async () => {
    hideImportance();
    const { image, model } = subject();
    const mine = (underway = new AbortController());
    $("importance-told").textContent = "Covering one patch after the other …";
    try {
      const map = await occlusions(image, model, mine.signal);
      if (!mine.signal.aborted) show(image, map);
    } catch (error) {
      if (mine.signal.aborted) return;
      const undecoded = error instanceof DOMException;
      if (!undecoded && !(error instanceof Failure)) throw error;
      $("importance-told").textContent = undecoded ? "This browser cannot decode that picture." : error.message;
    }
  });
}

/** Forget the map, which is of an older picture. */
export function hideImportance() {
  underway?.abort();
  $("importance").hidden = true;
  $("importance-told").textContent = "";
}

function show(image, { label, probability, drops }) {
  const picture = $("importance-picture");
  URL.revokeObjectURL(picture.src);
  picture.src = URL.createObjectURL(image);
  const most = Math.max(...drops);
  $("importance-map").replaceChildren(
    ...drops.map((drop, patch) => {
      const square = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const place = { x: patch % SIDE, y: Math.floor(patch / SIDE), width: 1, height: 1 };
      for (const [name, value] of Object.entries(place)) square.setAttribute(name, value);
      square.setAttribute("fill-opacity", most > 0 ? (0.85 * Math.max(0, drop)) / most : 0);
      return square;
    }),
  );
  $("importance").hidden = false;
  const worst = drops.indexOf(most);
  $("importance-told").textContent =
    most > 0.005
      ? `Without row ${Math.floor(worst / SIDE) + 1}, column ${(worst % SIDE) + 1} of ${SIDE} × ${SIDE}, ` +
        `“${label}” falls from ${percent(probability)} to ${percent(probability - most)}: the patch that matters most.`
      : `No single patch of ${SIDE} × ${SIDE} matters to “${label}” (${percent(probability)}).`;
}
