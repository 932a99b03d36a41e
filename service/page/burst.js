// The same image many times over: what the service makes of a load from this browser.

import { inParallel } from "./pool.js";
import { Failure, classifyMany } from "./service.js";

const AT_ONCE = 6; // as many connections as browsers open to a host
const EVERY = 200; // ms between two looks
const MOST_POINTS = 200; // of the curve

const $ = (id) => document.getElementById(id);

let underway = null; // the AbortController of the newest burst

/** Have "Fire" send what `subject()` gives, { image, model }, or null where there is no image yet. */
export function offerBursts(subject) {
  $("burst").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (underway) return underway.abort();
    const sent = await subject();
    if (!sent) return ($("burst-told").textContent = "Draw or choose an image first.");
    underway = new AbortController();
    $("fire").textContent = "Stop";
    await fire(sent, Number($("burst-images").value), Number($("burst-form").value), underway.signal);
    underway = null;
    $("fire").textContent = "Fire";
  });
}

async function fire({ image, model }, images, inOne, signal) {
  const counts = { answered: 0, refused: 0, failed: 0 };
  const latencies = []; // ms, one a request that was answered
  const started = performance.now();
  const look = () => show(counts, latencies, images, (performance.now() - started) / 1000);
  const looks = setInterval(look, EVERY);
  await inParallel(Math.ceil(images / inOne), AT_ONCE, signal, async (i) => {
    const some = Math.min(inOne, images - i * inOne);
    try {
      const { body, milliseconds } = await classifyMany(Array(some).fill(image), model, signal);
      latencies.push(milliseconds);
      for (const { error } of body.results) counts[outcome(error)] += 1;
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Failure)) throw error;
      counts[error.status === 429 ? "refused" : "failed"] += some;
    }
  });
  clearInterval(looks);
  look();
  $("burst-told").textContent = (signal.aborted ? "Stopped: " : "Finished: ") + sentence(counts);
}

const outcome = (error) => (error ? (error.code === "over_capacity" ? "refused" : "failed") : "answered");

const sentence = ({ answered, refused, failed }) => `${answered} answered, ${refused} refused, ${failed} failed.`;

function show(counts, latencies, images, seconds) {
  const sorted = [...latencies].sort((a, b) => a - b);
  const ended = counts.answered + counts.refused + counts.failed;
  $("burst-bar").max = images;
  $("burst-bar").value = ended;
  $("burst-rate").textContent = (counts.answered / seconds).toFixed(0);
  for (const [id, share] of [["burst-p50", 0.5], ["burst-p99", 0.99]]) $(id).textContent = at(sorted, share)?.toFixed(1) ?? "–";
  $("burst-refused").textContent = counts.refused;
  $("burst-curve").firstElementChild.setAttribute("d", curve(sorted));
}

const at = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];

/** Latencies from the shortest to the longest in the box 120 x 40, whose top is the longest. */
function curve(sorted) {
  if (!sorted.length) return "";
  const points = Array.from({ length: MOST_POINTS + 1 }, (_, i) => {
    const share = i / MOST_POINTS;
    return `${(120 * share).toFixed(2)} ${(39 - (36 * at(sorted, share)) / sorted.at(-1)).toFixed(2)}`;
  });
  return `M 0 42 L ${points.join(" L ")} L 122 42 Z`;
}
