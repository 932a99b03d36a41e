// The page: which image goes to which model, and what is shown of it.

import { showAnswer, showBusy, showNothing, showProblem } from "./answer.js";
import { offerBursts } from "./burst.js";
import { showCurl } from "./curl.js";
import { Drawing } from "./drawing.js";
import { hideImportance, offerImportance } from "./importance.js";
import { asDrawn, likeTraining } from "./pen_image.js";
import { receivePictures } from "./pictures.js";
import { showSamples } from "./samples.js";
import { Failure, classify, hasKey, sample, status, useKey } from "./service.js";
import { hideSeveral, showSeveral } from "./several.js";
import { showNoStatus, showStatus } from "./throughput.js";

const STATUS_EVERY = 2000; // ms

const $ = (id) => document.getElementById(id);

const drawing = new Drawing($("pad"));
let models = [];
let picture = null; // the file that was dropped, pasted or chosen last
let image = null; // a Blob: what the answer is about
let underway = null; // the newest request's AbortController

// One image: the newer request ends the older.

function stopAsking() {
  underway?.abort();
  underway = null;
  showBusy(false);
}

async function ask() {
  stopAsking();
  hideImportance();
  if (!image) return showNothing();
  const mine = (underway = new AbortController());
  const asked = image;
  showBusy(true);
  try {
    const answer = await classify(asked, chosenModel(), mine.signal);
    if (mine === underway) showAnswer(answer, asked);
  } catch (error) {
    if (mine === underway) fail(error);
  } finally {
    if (mine === underway) showBusy(false);
  }
}

function fail(error) {
  if (!(error instanceof Failure)) throw error;
  if (error.status === 401) askForKey();
  showProblem(error.message);
}

// Where it comes from.

drawing.addEventListener("change", () => {
  const empty = drawing.strokes.length === 0;
  $("undo").disabled = $("clear").disabled = empty;
  $("hint").hidden = !empty;
  if (empty) {
    image = null;
    ask();
  }
});
drawing.addEventListener("finished", sendDrawing);

async function sendDrawing() {
  const { strokes } = drawing;
  const sent = await (isDrawnFor(chosenModel()) ? likeTraining(strokes) : asDrawn(strokes));
  if ($("drawing").hidden || strokes !== drawing.strokes || !strokes.length) return; // overtaken by a picture, cleared
  image = sent;
  ask();
}

for (const action of ["undo", "clear"]) {
  $(action).addEventListener("click", () => {
    drawing[action]();
    if ($(action).disabled) originChoice("drawing").focus(); // a disabled button would lose the keyboard
  });
}
document.addEventListener("keydown", (event) => {
  if (event.key !== "z" || !(event.ctrlKey || event.metaKey) || event.shiftKey) return;
  if (event.target.matches("input[type=password]") || $("drawing").hidden || !drawing.strokes.length) return;
  event.preventDefault();
  drawing.undo();
});

receivePictures($("file"), takePictures, (sentence) => {
  stopAsking();
  showProblem(sentence);
});

function takePictures(files) {
  const [first, ...others] = files;
  if (others.length) showSeveral(files, chosenModel(), takePicture);
  else hideSeveral();
  takePicture(first);
  if (others.length) $("file-note").textContent = `${first.name}, the first of ${files.length}`;
}

function takePicture(file) {
  showOrigin("picture");
  image = picture = file;
  $("file-note").textContent = file.name || "pasted image";
  const preview = $("preview");
  URL.revokeObjectURL(preview.src);
  preview.onload = () => {
    preview.hidden = false;
    $("drop-hint").hidden = true;
  };
  preview.onerror = () => {
    preview.hidden = true;
    $("drop-hint").hidden = false;
    $("drop-hint").textContent = "This browser cannot show that file";
  };
  preview.src = URL.createObjectURL(file);
  ask();
}

// What else can be done with it.

offerImportance(() => ({ image, model: chosenModel() }));
offerBursts(async () => {
  const model = chosenModel();
  const sent = image ?? (model?.samples ? await sample(model, 0).catch(() => null) : null);
  return sent && { image: sent, model };
});

const originChoice = (origin) => document.querySelector(`input[name=origin][value=${origin}]`);

function showOrigin(origin) {
  originChoice(origin).checked = true;
  $("drawing").hidden = origin !== "drawing";
  $("picture").hidden = origin !== "picture";
}

for (const origin of ["drawing", "picture"]) {
  originChoice(origin).addEventListener("change", () => {
    showOrigin(origin);
    if (origin === "drawing" && drawing.strokes.length) return sendDrawing();
    image = origin === "picture" ? picture : null;
    ask();
  });
}

// Which model answers.

const chosenModel = () => models[$("model").selectedIndex];

const isDrawnFor = (model) => Boolean(model?.digits);

const names = ({ models }) => models.map(({ name, version }) => `${name}/${version}`).join();

function offerModels(served) {
  if (names(served) === names({ models })) return;
  const before = chosenModel() ?? served.default;
  models = served.models;
  $("model").replaceChildren(...models.map(({ name, version }) => new Option(`${name}, version ${version}`)));
  const find = ({ name, version }) => models.findIndex((model) => model.name === name && model.version === version);
  $("model").selectedIndex = find(find(before) < 0 ? served.default : before);
  suitModel();
}

function suitModel() {
  $("hint").textContent = isDrawnFor(chosenModel()) ? "Draw a digit" : "Draw here";
  if (!image && !drawing.strokes.length) showOrigin(isDrawnFor(chosenModel()) ? "drawing" : "picture");
  showSamples(chosenModel(), (file) => takePictures([file]));
  showCurl(chosenModel(), hasKey());
}

$("model").addEventListener("change", () => {
  suitModel();
  if (!$("drawing").hidden && drawing.strokes.length) sendDrawing();
  else if (image) ask();
});

// Its key, if it asks for one.

let keyGiven = false;

function askForKey() {
  if (!$("key").hidden) return;
  $("key").hidden = false;
  $("key-field").focus();
}

$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey($("key-field").value);
  showCurl(chosenModel(), true);
  keyGiven = true;
  $("key").hidden = true;
  $("key-field").value = "";
  originChoice("drawing").focus();
  followStatus();
  if (image) ask();
  else showNothing();
});

// How it does.

let next = 0;

async function followStatus() {
  clearTimeout(next);
  try {
    if (!document.hidden) {
      const now = await status();
      offerModels(now);
      showStatus(now, chosenModel());
    }
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    showNoStatus({ 0: "unreachable", 401: "locked" }[error.status] ?? "failing");
    if (error.status === 401) {
      if (keyGiven) showProblem(error.message);
      return askForKey();
    }
  }
  clearTimeout(next);
  next = setTimeout(followStatus, STATUS_EVERY);
}

document.addEventListener("visibilitychange", () => document.hidden || followStatus());
showCurl(null, hasKey());
followStatus();
