// Several files at once: a grid that fills as the answers come.

import { inParallel, pause } from "./pool.js";
import { Failure, classify } from "./service.js";

const AT_ONCE = 6; // as many connections as browsers open to a host
const TRIES = 5; // of an image that is refused for want of capacity

const $ = (id) => document.getElementById(id);

let underway = null; // the AbortController of the newest lot

/** Forget the lot that is shown, if one is. */
export function hideSeveral() {
  underway?.abort();
  $("several").hidden = true;
  for (const image of $("grid").querySelectorAll("img")) URL.revokeObjectURL(image.src);
  $("grid").replaceChildren();
}

/** Classify every file with `model`, and show each in the grid; `open(file)` gets the one that is clicked. */
export async function showSeveral(files, model, open) {
  hideSeveral();
  const { signal } = (underway = new AbortController());
  const cells = files.map((file) => cell(file, open));
  $("grid").append(...cells.map(({ item }) => item));
  $("several").hidden = false;
  $("several-bar").max = files.length;
  const started = performance.now();
  let [done, failed] = [0, 0];
  const tell = () => {
    const seconds = (performance.now() - started) / 1000;
    $("several-bar").value = done;
    const failures = failed ? `, ${failed} without an answer` : "";
    $("several-progress").textContent = `${done} of ${files.length}${failures}, ${(done / seconds).toFixed(0)} img/s`;
  };
  tell();
  await inParallel(files.length, AT_ONCE, signal, async (i) => {
    const said = await ask(files[i], model, signal);
    if (signal.aborted) return;
    done += 1;
    failed += Number(said.failed);
    cells[i].show(said);
    tell();
  });
  if (!signal.aborted) $("several-spoken").textContent = `Finished: ${$("several-progress").textContent}`;
}

async function ask(file, model, signal) {
  for (let left = TRIES; ; left -= 1) {
    try {
      const { body } = await classify(file, model, signal);
      const { label, probability } = body.predictions[0];
      return { label, detail: `${(100 * probability).toFixed(1)} %`, failed: false };
    } catch (error) {
      if (signal.aborted) return null;
      if (!(error instanceof Failure)) throw error;
      if (error.status !== 429 || left <= 1) return { label: "no answer", detail: error.message, failed: true };
      await pause(error.retryAfter, signal);
      if (signal.aborted) return null;
    }
  }
}

function cell(file, open) {
  const item = document.createElement("li");
  const button = item.appendChild(document.createElement("button"));
  button.type = "button";
  button.className = "quiet cell";
  const image = button.appendChild(document.createElement("img"));
  image.loading = "lazy";
  image.alt = "";
  image.src = URL.createObjectURL(file);
  image.onerror = () => (image.hidden = true);
  const [name, label, detail] = ["name", "label", "detail"].map((kind) => {
    const line = button.appendChild(document.createElement("span"));
    line.className = kind;
    return line;
  });
  name.textContent = file.name;
  label.textContent = "…";
  button.addEventListener("click", () => open(file));
  return {
    item,
    show(said) {
      item.classList.toggle("is-failed", said.failed);
      label.textContent = said.label;
      detail.textContent = said.detail;
    },
  };
}
