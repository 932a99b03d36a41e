// Which parts of the picture mattered: its patches are covered one after the other, and the probability is watched
// (occlusion sensitivity, Zeiler and Fergus 2014). Two ordinary requests: the picture, and a form of 64 covered ones.

import { Failure, classifyMany } from "./service.js";

export const SIDE = 8; // patches in a row; a form takes 64 images
const LONGEST = 256; // pixels of the copy that is covered
const TOP = 100; // predictions asked for; a label that is not among them has next to none of the probability

/**
 * What covering each patch costs the best label.
 *
 * `{ label, probability, drops }`, drops row by row, positive where the patch spoke for the label. Raises Failure, the
 * signal's AbortError, or an InvalidStateError where this browser cannot decode the picture.
 */
export async function occlusions(image, model, signal) {
  const bitmap = await createImageBitmap(image);
  const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(SIDE, Math.round(bitmap.width * scale));
  canvas.height = Math.max(SIDE, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const paint = () => {
    context.fillStyle = "white"; // as the service lays transparency on
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  };
  paint();
  const whole = await encoded(canvas);
  const grey = mean(context, canvas);
  const covered = [];
  for (let patch = 0; patch < SIDE * SIDE; patch += 1) {
    const [left, right] = edges(patch % SIDE, canvas.width);
    const [top, bottom] = edges(Math.floor(patch / SIDE), canvas.height);
    paint();
    context.fillStyle = grey;
    context.fillRect(left, top, right - left, bottom - top);
    covered.push(await encoded(canvas));
  }
  const [best] = (await results([whole], model, signal))[0].predictions;
  const answers = await results(covered, model, signal);
  const after = answers.map(({ predictions }) => predictions.find(({ index }) => index === best.index)?.probability ?? 0);
  return { ...best, drops: after.map((probability) => best.probability - probability) };
}

async function results(images, model, signal) {
  const { body } = await classifyMany(images, model, signal, TOP);
  const failed = body.results.find(({ error }) => error);
  if (failed) throw new Failure(`${failed.error.message}.`);
  return body.results;
}

const edges = (i, length) => [i, i + 1].map((edge) => Math.round((edge * length) / SIDE));

function mean(context, { width, height }) {
  const { data } = context.getImageData(0, 0, width, height);
  const sums = [0, 0, 0];
  for (let i = 0; i < data.length; i += 4) sums.forEach((_, channel) => (sums[channel] += data[i + channel]));
  return `rgb(${sums.map((sum) => Math.round(sum / (width * height))).join()})`;
}

const encoded = (canvas) => new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
