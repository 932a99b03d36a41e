// The answer: bars of the predictions, and a timeline of the milliseconds.

const $ = (id) => document.getElementById(id);

const percent = (p) => `${(100 * p).toFixed(1)} %`;

// In the order in which an image passes through them.
const STAGES = {
  receive: "the upload",
  decode: "and resize",
  queue: "for the engine",
  infer: "the model",
  post: "softmax, labels",
};

/** Say that an answer is on its way, or no longer is. */
export function showBusy(busy) {
  $("answer").setAttribute("aria-busy", String(busy));
}

/** Nothing to show yet. */
export function showNothing() {
  $("result").hidden = true;
  $("nothing").hidden = false;
  $("problem").textContent = $("spoken").textContent = "";
}

/** A sentence in place of the answer. */
export function showProblem(sentence) {
  showNothing();
  $("nothing").hidden = true;
  $("problem").textContent = sentence;
}

/** The body of /v1/classify for `image` (a Blob), and the milliseconds seen by the browser. */
export function showAnswer({ body, milliseconds }, image) {
  const [best, ...others] = body.predictions;
  $("nothing").hidden = true;
  $("result").hidden = false;
  $("problem").textContent = "";
  $("best-label").textContent = best.label;
  $("best-label").classList.toggle("is-short", best.label.length < 4);
  $("best-probability").textContent = percent(best.probability);
  $("spoken").textContent =
    `${best.label}, ${percent(best.probability)}. ` +
    others.map(({ label, probability }) => `${label}, ${percent(probability)}`).join("; ");
  showSent(image, body.image);
  showPredictions(body.predictions);
  showTimeline(body.timing_ms, milliseconds);
  if (matchMedia("(max-width: 52rem)").matches) $("best").scrollIntoView({ block: "nearest" }); // it is below the image
}

function showSent(image, { width, height, format }) {
  const sent = $("sent");
  URL.revokeObjectURL(sent.src);
  sent.hidden = false;
  sent.onerror = () => (sent.hidden = true); // a format that the service knows and this browser does not
  sent.src = URL.createObjectURL(image);
  $("sent-as").textContent = `${width} × ${height} ${format}`;
}

function showPredictions(predictions) {
  const list = $("predictions");
  list.classList.toggle("is-long", predictions.some(({ label }) => label.length > 3));
  while (list.children.length > predictions.length) list.lastElementChild.remove();
  predictions.forEach(({ label, probability }, i) => {
    const row = list.children[i] ?? list.appendChild(predictionRow());
    row.querySelector(".label").textContent = label;
    row.querySelector(".probability").textContent = percent(probability);
    const bar = row.querySelector("i");
    bar.getBoundingClientRect(); // so that a new bar grows from nothing
    bar.style.width = `${100 * probability}%`;
  });
}

function predictionRow() {
  const row = element("li", "");
  row.append(element("span", "label"), element("span", "bar"), element("span", "probability"));
  row.querySelector(".bar").append(element("i", ""));
  return row;
}

function showTimeline(timing, milliseconds) {
  const { total } = timing;
  const inStages = Object.keys(STAGES).reduce((sum, stage) => sum + (timing[stage] ?? 0), 0);
  const steps = [
    ["network", "and browser", Math.max(0, milliseconds - total), "is-outside"],
    ...Object.entries(STAGES).map(([stage, what]) => [stage, what, timing[stage] ?? 0, ""]),
    ["rest", "of the service", Math.max(0, total - inStages), ""],
  ];
  const whole = steps.reduce((sum, [, , duration]) => sum + duration, 0);
  let start = 0;
  $("timeline").replaceChildren(
    ...steps.map(([name, what, duration, kind]) => {
      const row = timelineRow(name, what, duration, kind);
      const bar = row.querySelector("i");
      bar.style.left = `${(100 * start) / whole}%`;
      bar.style.width = `${(100 * duration) / whole}%`;
      start += duration;
      return row;
    }),
  );
  $("timeline-total").replaceChildren(timelineRow("total", "", whole, "is-total"));
}

function timelineRow(name, what, duration, kind) {
  const row = element("tr", kind);
  const heading = element("th", "", `${name} `);
  heading.scope = "row";
  heading.append(element("small", "", what));
  const track = element("td", "");
  if (kind !== "is-total") track.append(element("span", "track"));
  track.firstElementChild?.append(element("i", ""));
  row.append(heading, track, element("td", "ms", `${duration.toFixed(2)} ms`));
  return row;
}

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}
