// Files from the user: dropped or pasted anywhere, or chosen.

/** Calls `take(files)` with what came, at least one file, and `refuse(sentence)` where there was none. */
export function receivePictures(chooser, take, refuse) {
  const from = (list, otherwise) => (list.length ? take([...list]) : refuse(otherwise));

  chooser.addEventListener("change", () => {
    if (chooser.files.length) take([...chooser.files]);
    chooser.value = ""; // so that the same file can be chosen again
  });

  document.addEventListener("paste", (event) => {
    if (event.target instanceof HTMLInputElement && event.target.type === "password") return;
    event.preventDefault();
    from(event.clipboardData?.files ?? [], "The clipboard holds no image.");
  });

  let depth = 0; // enter and leave are sent for every element on the way
  const mark = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("is-target", depth > 0);
  };
  document.addEventListener("dragenter", () => mark(1));
  document.addEventListener("dragleave", () => mark(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    mark(-depth);
    from(event.dataTransfer?.files ?? [], "What was dropped is no file. Save the image first, then drop it.");
  });
}
