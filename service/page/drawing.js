// The pad: pen strokes as points in 0..100, with undo and clear.

const PAUSE = 400; // ms that the pen rests before the drawing counts as finished

/**
 * Strokes on an <svg>, one <path> each.
 *
 * Events: "change" after every stroke, undo and clear; "finished" when the pen has rested since the last change
 * and something is drawn.
 */
export class Drawing extends EventTarget {
  #svg;
  #pointer = null;
  #pause = 0;

  constructor(svg) {
    super();
    this.strokes = []; // [[x, y], ...] each
    this.#svg = svg;
    svg.addEventListener("pointerdown", (event) => this.#down(event));
    svg.addEventListener("pointermove", (event) => this.#move(event));
    for (const type of ["pointerup", "pointercancel"]) svg.addEventListener(type, (event) => this.#up(event));
  }

  undo() {
    this.strokes.pop();
    this.#svg.lastElementChild?.remove();
    this.#changed();
  }

  clear() {
    this.strokes = [];
    this.#svg.replaceChildren();
    this.#changed();
  }

  #down(event) {
    if (!event.isPrimary || event.button !== 0 || this.#pointer !== null) return;
    event.preventDefault();
    clearTimeout(this.#pause);
    this.#pointer = event.pointerId;
    this.#svg.setPointerCapture(event.pointerId);
    this.strokes.push([]);
    this.#svg.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
    this.#add(event);
  }

  #move(event) {
    if (event.pointerId !== this.#pointer) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const part of events.length ? events : [event]) this.#add(part);
  }

  #up(event) {
    if (event.pointerId !== this.#pointer) return;
    this.#pointer = null;
    this.#changed();
  }

  #add(event) {
    const box = this.#svg.getBoundingClientRect();
    const stroke = this.strokes.at(-1);
    stroke.push([((event.clientX - box.left) / box.width) * 100, ((event.clientY - box.top) / box.height) * 100]);
    this.#svg.lastElementChild.setAttribute("d", outline(stroke));
  }

  #changed() {
    clearTimeout(this.#pause);
    this.dispatchEvent(new Event("change"));
    if (this.strokes.length) this.#pause = setTimeout(() => this.dispatchEvent(new Event("finished")), PAUSE);
  }
}

/** SVG path data of a stroke: curves through the middles between its points; one point is a dot. */
export function outline(stroke) {
  const [first, ...others] = stroke;
  let data = `M ${first}`;
  others.forEach((point, i) => {
    const [x, y] = i ? others[i - 1] : first;
    data += ` Q ${x} ${y} ${(x + point[0]) / 2} ${(y + point[1]) / 2}`;
  });
  return `${data} L ${stroke.at(-1)}`;
}
