// Whether the service is ready, and its trailing throughput with the last two minutes as a curve.

const KEPT = 60; // samples

const rates = [];

const $ = (id) => document.getElementById(id);

const figure = (value) => value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);

/** Show a PageStatus, and what the chosen `model` could do. */
export function showStatus(status, model) {
  $("readiness").textContent = status.ready ? "ready" : "not ready";
  $("readiness").classList.toggle("is-ready", status.ready);
  $("rate").textContent = figure(status.images_per_second);
  $("capacity").textContent = figure(model.capacity_images_per_second);
  $("rate-per-core").textContent = figure(status.images_per_second_per_core);
  $("cores").textContent = String(Number(status.cores.toFixed(2)));
  rates.push(status.images_per_second);
  if (rates.length > KEPT) rates.shift();
  $("history").firstElementChild.setAttribute("d", curve());
}

/** Show that there is none: `why` in two words. */
export function showNoStatus(why) {
  $("readiness").textContent = why;
  $("readiness").classList.remove("is-ready");
  for (const id of ["rate", "rate-per-core"]) $(id).textContent = "–";
}

/** Area under the rates in the box 120 x 40, the newest at the right. */
function curve() {
  const highest = Math.max(1, ...rates);
  const points = rates.map((rate, i) => {
    const x = 120 - ((rates.length - 1 - i) * 120) / (KEPT - 1);
    return `${x.toFixed(2)} ${(39 - (36 * rate) / highest).toFixed(2)}`;
  });
  const left = points[0].split(" ")[0];
  return `M ${left} 42 L ${points.join(" L ")} L 122 42 Z`;
}
