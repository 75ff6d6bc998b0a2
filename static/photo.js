// A photo that is chosen, taken, dropped or pasted: every face in it is a button for its mood and its songs.

import { named, percent, place, showBars, showMood } from "./mood.js";
import { $, isPlain, Refusal, request, write } from "./site.js";
import { loadSongs, markChips, NO_SONGS } from "./songs.js";

const LARGEST = 15 * 1024 * 1024; // bytes; the site takes no more
const HEAVY = 3 * 1024 * 1024; // what has more is sent as a smaller copy
const SENT = 3200; // pixels: the longest side of that
const QUALITY = 0.9;
const SHOWN = 1600; // pixels: the longest side of the picture on this page
const TALLEST = 1; // width by height: what stands taller leaves room at its sides
const TIMEOUT = 55000; // a large photo may come from a slow line; after a minute the site hangs up
const NOT_ONE = "That is no picture.";
const TOO_LARGE = "That file has more than 15 MB, which is more than the site takes. A smaller copy of the photo will do.";
const NOBODY = "There is no face to be found in this photo. One that looks at the camera, and is not too small, is found best.";
const TOO_SLOW = "The photo did not get through in a minute. A smaller copy of it will.";
const UNREADABLE = "That file is empty or cannot be read here. Is it a folder, or has it been moved?";
const UNSEEN = "This browser cannot show the photo.";
const NO_ANSWER = "The site does not answer. Please try again.";
const WHY = { DataError: TOO_LARGE, TimeoutError: TOO_SLOW, NotFoundError: UNREADABLE, NotReadableError: UNREADABLE };

let asking = null; // the question in flight; a later photo ends it
let choices = []; // the moods to choose from: of each face, then of the room
let said = $("notice").textContent; // of the photo

// -- from a photo to its faces -------------------------------------------------------------------

async function look(file) {
  if (file.type && !file.type.startsWith("image/")) return say(NOT_ONE);
  asking?.abort();
  const mine = (asking = new AbortController());
  say("Looking at the photo.");
  const decoding = decoded(file);
  const answer = await answered(file, decoding, mine).catch((error) => error);
  const picture = await decoding;
  if (mine === asking) show(answer, picture);
  picture?.close?.();
}

/** The picture as the browser reads it, or null. Some kinds it reads in one way only. */
async function decoded(file) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (bitmap) return bitmap;
  const image = Object.assign(new Image(), { src: URL.createObjectURL(file) });
  const drawable = await image.decode().then(() => image, () => null);
  URL.revokeObjectURL(image.src);
  return drawable;
}

/** What the site sees in the file, or where that is large or not of its kinds, in a copy of what the browser reads. */
async function answered(file, decoding, mine) {
  const begun = await file.slice(0, 1).arrayBuffer(); // says why, where a request would only fail
  if (!begun.byteLength) throw new DOMException("", "NotReadableError");
  const copy = file.size > HEAVY && (await copied(await decoding));
  if (copy) return recognized(copy, mine);
  if (file.size > LARGEST) throw new DOMException("", "DataError");
  return recognized(file, mine).catch(async (error) => {
    const other = [413, 415].includes(error.code) && (await copied(await decoding));
    if (!other) throw error;
    return recognized(other, mine);
  });
}

/** A JPEG of it, no larger than the site needs; null where there is none. */
async function copied(picture) {
  if (!picture) return null;
  const [width, height] = [picture.naturalWidth ?? picture.width, picture.naturalHeight ?? picture.height];
  const scale = Math.min(1, SENT / Math.max(width, height));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.round(scale * width), Math.round(scale * height)];
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
}

async function recognized(file, mine) {
  const late = setTimeout(() => mine.abort(new DOMException("", "TimeoutError")), TIMEOUT);
  const headers = { "Content-Type": file.type || "application/octet-stream" };
  const asked = request("/recognize?still=1", { method: "POST", body: file, headers, signal: mine.signal });
  return asked.finally(() => clearTimeout(late));
}

function show(answer, picture) {
  if (answer instanceof Error) return say(why(answer));
  const { faces, room, image } = answer;
  say(`${found(faces)}${picture ? "" : ` ${UNSEEN}`}`);
  draw(picture, image);
  choices = [...faces.map((face, number) => ({ ...face, lead: lead(number, faces.length) })), ...inRoom(room)];
  $("faces").replaceChildren(...faces.map((face, number) => mark(face, number, faces.length, image)));
  $("room").hidden = !room;
  $("reading").hidden = !faces.length;
  if (faces.length) choose(0);
}

function why(error) {
  if (error instanceof Refusal) return error.message;
  return WHY[error.name] ?? NO_ANSWER;
}

function found(faces) {
  if (!faces.length) return NOBODY;
  const [{ emotion }] = faces;
  return faces[1] ? `${faces.length} faces, the first ${emotion}: choose one for its songs.` : `One face: ${emotion}.`;
}

const lead = (number, count) => (count > 1 ? `Face ${number + 1} of ${count} looks` : "Looks like");
const inRoom = (room) => (room ? [{ ...room, lead: "The room looks" }] : []);

/** The picture as the browser turns it, no larger than a page needs. */
function draw(picture, { width, height }) {
  const scale = Math.min(1, SHOWN / Math.max(width, height));
  [$("photo").width, $("photo").height] = [Math.round(scale * width), Math.round(scale * height)];
  if (picture) $("photo").getContext("2d").drawImage(picture, 0, 0, $("photo").width, $("photo").height);
  $("stage").style.setProperty("--shape", Math.max(TALLEST, width / height));
  $("photo").parentElement.style.setProperty("--shape", width / height);
  $("photo").parentElement.style.setProperty("--fill", `${100 * Math.min(1, width / height / TALLEST)}%`);
  $("stage").dataset.phase = "live";
  $("watch").dataset.started = "";
  $("given")?.remove();
  $("found")?.remove();
}

function mark({ box, emotion, confidence }, number, count, image) {
  const button = $("mark").content.firstElementChild.cloneNode(true);
  const which = count > 1 ? `Face ${number + 1} of ${count}` : "The face";
  button.setAttribute("aria-label", `${which}: ${emotion}, ${percent(confidence)} sure. Show its songs`);
  button.firstElementChild.textContent = emotion;
  button.addEventListener("click", () => choose(number));
  place(button, box, image);
  return button;
}

// -- from a face to its songs --------------------------------------------------------------------

function choose(number) {
  const chosen = choices[number];
  showMood(chosen.lead, named(chosen.emotion), chosen);
  showBars(chosen);
  const buttons = [...$("faces").children, $("room").firstElementChild];
  buttons.forEach((button, other) => button.setAttribute("aria-pressed", String(other === number)));
  tune(`/songs?seen=${chosen.emotion}`);
}

async function tune(address, chosen = null) {
  const loaded = await loadSongs(address);
  if (loaded === null) return;
  write($("notice"), loaded ? said : NO_SONGS);
  if (loaded) markChips(chosen);
}

function say(text) {
  $("notice").textContent = said = text;
}

// -- where photos come from ----------------------------------------------------------------------

function onFile(event) {
  const [file] = event.target.files;
  if (file) look(file);
  event.target.value = ""; // the same photo may be chosen again
}

function onPaste(event) {
  const file = picked(event.clipboardData);
  if (file) look(file);
  else if (event.clipboardData?.types.length) say("What you pasted is no picture.");
}

function onDrop(event) {
  event.preventDefault();
  onDragEnd();
  const file = picked(event.dataTransfer);
  if (file) look(file);
  else say("What you dropped is no file. Save the picture first, then drop the file.");
}

const picked = (given) => [...(given?.files ?? [])].find(({ type }) => type.startsWith("image/")) ?? given?.files[0];

function onDrag(event) {
  event.preventDefault(); // or the browser opens the file
  $("stage").dataset.over = "";
}

function onDragEnd() {
  delete $("stage").dataset.over;
}

function onChip(event) {
  const link = event.target.closest("a");
  if (!link || !isPlain(event)) return;
  event.preventDefault();
  tune(`/songs?emotion=${link.dataset.emotion}`, link.dataset.emotion);
}

const touched = matchMedia("(pointer: coarse)").matches;
$("look").hidden = true;
$("drop").hidden = touched;
$("take").hidden = !touched;
for (const input of [$("picture"), $("taken")]) input.addEventListener("change", onFile);
$("room").firstElementChild.addEventListener("click", () => choose(choices.length - 1));
$("chips").addEventListener("click", onChip);
document.addEventListener("paste", onPaste);
document.addEventListener("dragover", onDrag);
document.addEventListener("dragleave", onDragEnd);
document.addEventListener("drop", onDrop);
