// The site's camera: its picture is a stream that all who watch share, its mood is asked for again and again.

import { inWords } from "./mood.js";
import { $, ask, counted, inTurn, NO_ANSWER, Refusal, sentence, sleep } from "./site.js";

const POLL = 400; // milliseconds between two looks at the state
const SLOWEST_POLL = 8000;
const TIMEOUT = 5000;
const RETRY_SOON = 1500;
const RETRY_FULL = 10000; // what the site asks for when too many watch
const STILL = 4000; // milliseconds until a picture that stands still is taken for lost

export const grace = 4000; // milliseconds that a hidden page goes on watching
export const obstacle = () => "";

let round = null; // the polling in force; null while we do not watch
let screen = null; // the page, and what may be said on it
let pictures = 0;
let retrying = 0;
let lacking = ""; // why there is no picture
let still = { wait: STILL }; // the picture that was seen last, since when, and how long it may stay the same
const brush = Object.assign(document.createElement("canvas"), { width: 64, height: 48 }).getContext("2d");

export function watch(page) {
  screen = page;
  retry();
  keepReading();
}

export function unwatch() {
  round = null;
  closePicture("paused");
}

/** Without it the camera is released some seconds later. */
export function release() {
  ask("/pause", { method: "POST" }).catch(() => {});
}

async function keepReading() {
  const mine = (round = Symbol("round"));
  let failures = 0;
  while (round === mine) {
    const state = await ask("/state").catch((error) => error);
    if (round !== mine) return;
    const lost = state instanceof Error;
    if (lost) siteLost(state);
    else if (failures) siteFound();
    failures = lost ? failures + 1 : 0;
    if (lacking && $("video").naturalWidth) lack("");
    if (!lost) show(state);
    if (!lost && standsStill(state.camera)) openAgain();
    await sleep(Math.min(POLL * 2 ** failures, SLOWEST_POLL));
  }
}

function siteLost(error) {
  screen.note("server", error instanceof Refusal ? error.message : NO_ANSWER);
  closePicture("lost");
  screen.show({ lead: "No answer", mood: "Waiting" });
}

function siteFound() {
  screen.note("server", "");
  screen.note("songs", "");
  retry();
}

function show({ reading, faces, camera, songs }) {
  const name = /^\d+$/.test(camera.source) ? `camera ${camera.source}` : camera.source;
  const pace = `${name}, ${counted(Math.round(camera.fps), "picture")} a second`;
  screen.note("camera", camera.message);
  const words = (!reading && withoutPicture(camera)) || inWords(reading, faces);
  screen.show({ ...words, reading: reading && { ...reading, songs }, pace });
}

/** What is said while there is no picture to see anybody in; null while there is. */
function withoutPicture({ status }) {
  if (status === "error" || lacking) return { lead: "The camera", mood: "No picture" };
  return status === "live" ? null : { lead: "One moment", mood: "Starting" };
}

// -- the picture ---------------------------------------------------------------------------------

export function retry() {
  lack("");
  openPicture();
}

/** What is lacking stays said until there is a picture again. */
function openPicture() {
  clearTimeout(retrying);
  pictures += 1; // a new address: a browser may go on with the picture that was lost
  $("video").src = `/video_feed?n=${pictures}`;
  still.since = performance.now();
  screen.phase("live");
}

/** Whether the picture stays the same for too long: browsers do not tell a page that a stream ended once it began. */
function standsStill({ status }) {
  if ($("video").naturalWidth) brush.drawImage($("video"), 0, 0, brush.canvas.width, brush.canvas.height);
  const pixels = brush.canvas.toDataURL();
  const now = performance.now();
  if (pixels !== still.pixels) still = { pixels, since: now, wait: STILL };
  const patience = { idle: STILL, live: still.wait }[status] ?? Infinity;
  return !lacking && now - still.since > patience;
}

/** What shows something that does not move is opened ever more seldom. */
function openAgain() {
  still.wait *= 2;
  openPicture();
}

function closePicture(phase) {
  clearTimeout(retrying);
  $("video").removeAttribute("src");
  screen?.phase(phase);
}

async function pictureLost() {
  if (!round) return;
  closePicture("lost");
  const why = await inTurn(whyNoPicture);
  if (!round) return;
  lack(why);
  retrying = setTimeout(openPicture, why ? RETRY_FULL : RETRY_SOON);
}

function lack(why) {
  lacking = why;
  screen.note("picture", lacking);
}

/** An image cannot say why it failed, so its address is asked: what the site says when it refuses, else "". */
async function whyNoPicture() {
  const end = new AbortController();
  const limit = setTimeout(() => end.abort(), TIMEOUT);
  try {
    const response = await fetch("/video_feed", { signal: end.signal });
    return response.ok ? "" : await sentence(response);
  } catch {
    return ""; // the site is gone: the polling says so
  } finally {
    clearTimeout(limit);
    end.abort();
  }
}

$("video").addEventListener("error", pictureLost);
