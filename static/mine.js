// The visitor's own camera, which the browser opens and only the visitor sees. Small pictures go to the site, one at
// a time; what it answers is drawn over the mirror.

import { inWords, percent, place } from "./mood.js";
import { $, NO_ANSWER, Refusal, request, sleep, write } from "./site.js";

const AREA = 320 * 240; // pixels of a picture that is sent, whatever its shape
const QUALITY = 0.8;
const FASTEST = 100; // milliseconds from one picture to the next
const SLOWEST = 4000;
const SHARE = 1.5; // a picture for each so many times an answer takes, so that a slow site is asked less
const REOPEN = 3000; // milliseconds until a camera that went away is looked for again
const ASKED = 3000; // milliseconds until a browser that has not answered is taken to ask the person
const DARK = 4000; // milliseconds until a camera that opened and sends nothing is said
const PATIENCE = 2000; // milliseconds: an answer that is lost after so long is said, or so many in a row
const FAILURES = 2;
const REFUSALS = 3;
const NONE = { lead: "Your camera", mood: "No picture" };
const WANTED = { video: { facingMode: "user", width: { ideal: 640 }, height: { ideal: 480 } } };

const INSECURE =
  "Browsers open a camera only for pages that come over https, or from this device itself. This one came over plain " +
  "http: ask for an https address of the site. A photo, and the moods to choose, work here too.";
const UNABLE = "This browser cannot open a camera. Another one may; a photo works here too.";
const QUESTION =
  "Your browser has not opened the camera yet. Perhaps it asks you whether it may: look beside the address, and allow it.";
const GONE = "Your camera has gone: unplugged, or taken away from this page. It is used again once it is back.";
const MUTE = "Your camera sends no picture: is it covered, or switched off by a key?";
const NO_COOKIES =
  "Your browser keeps no cookies of this site, so your mood cannot be steadied: allow them, or choose a mood by hand.";
const CROWD = "Many people are here at the moment, so your mood follows more slowly.";
const WHY = {
  NotAllowedError:
    "The browser keeps your camera from this page. Allow it in the browser's settings for this site " +
    "(beside the address), and in those of your device; then try again.",
  NotFoundError: "There is no camera on this device. Plug one in and try again, or choose a photo above",
  NotReadableError: "Your camera is in use by another program, or does not start. Close the other program and try again.",
};
const NAMESAKES = { SecurityError: "NotAllowedError", OverconstrainedError: "NotFoundError", AbortError: "NotReadableError" };

export const grace = 0; // milliseconds that a hidden page goes on watching

let round = null; // the watching in force; null while there is none
let stream = null; // the open camera
let refused = ""; // why the browser gave none; it is asked again when a person says so
const canvas = document.createElement("canvas");

/** Why this page cannot even ask for a camera, or "". */
export function obstacle() {
  if (navigator.mediaDevices?.getUserMedia) return "";
  return isSecureContext ? UNABLE : INSECURE;
}

/** Ask for the camera and follow the face in it, until `unwatch`. One that goes away is waited for. */
export async function watch(page) {
  if (refused) return refuse(page, refused);
  const mine = (round = Symbol("round"));
  let had = false;
  while (round === mine) {
    const failure = await open(page, mine);
    if (round !== mine) return;
    if (failure && !(had && failure !== "NotAllowedError")) return refuse(page, failure);
    if (!failure) await follow(page, mine);
    if (round !== mine) return;
    had = true;
    close();
    page.phase("lost");
    page.note("picture", GONE);
    page.show(NONE);
    await sleep(REOPEN);
  }
}

export function unwatch() {
  round = null;
  close();
}

/** The camera is, with `unwatch`; who resumes then is asked again. */
export function release() {
  refused = "";
}

export function retry(page) {
  unwatch();
  release();
  page.note("picture", "");
  page.show({ lead: "One moment", mood: "Starting" });
  watch(page);
}

function refuse(page, failure) {
  unwatch();
  refused = failure;
  page.phase("lost");
  page.note("picture", `${WHY[failure] ?? UNABLE}${failure === "NotFoundError" ? alternative() : ""}`);
  page.show(NONE);
}

/** What somebody without a camera can look at: the site's own picture is a demo where it has no camera either. */
function alternative() {
  const demo = "demo" in $("ways").dataset && $("ways").querySelector("[data-way=server]");
  return demo ? `; or look at the demo: ${demo.textContent.trim()}.` : ".";
}

// -- the camera ----------------------------------------------------------------------------------

/** Open the camera into the mirror; the name of what went wrong, or null. */
async function open(page, mine) {
  const asking = setTimeout(() => round === mine && page.note("camera", QUESTION), ASKED);
  try {
    const opened = await navigator.mediaDevices.getUserMedia(WANTED);
    if (round !== mine) return void stop(opened);
    stream = opened;
    $("mirror").srcObject = stream;
    $("mirror").play().catch(() => {}); // not waited for: it begins with the first picture, which may never come
    return null;
  } catch ({ name }) {
    return NAMESAKES[name] ?? name;
  } finally {
    clearTimeout(asking);
    if (round === mine) page.note("camera", "");
  }
}

function close() {
  if (stream) stop(stream);
  stream = null;
  $("mirror").srcObject = null;
  draw([]);
}

/** The light goes out. */
function stop(opened) {
  for (const track of opened.getTracks()) track.stop();
}

// -- what the site sees --------------------------------------------------------------------------

/** Send pictures and show the answers, as long as the camera is there. */
async function follow(page, mine) {
  const [track] = stream.getVideoTracks();
  const rate = { trip: 0, least: 0, failures: 0 };
  const since = performance.now();
  const live = () => round === mine && track.readyState === "live";
  page.note("picture", "");
  while (live()) {
    const began = performance.now();
    const dark = track.muted || (!hasPicture() && began - since > DARK);
    page.phase(dark ? "lost" : "live");
    page.note("camera", dark ? MUTE : "");
    if (dark) showNothing(page);
    const picture = dark ? null : await still();
    if (!live()) return; // nothing leaves the page after a pause
    const answer = picture && (await request("/recognize", posting(picture)).catch((error) => error));
    if (!live()) return;
    const trip = performance.now() - began;
    const wait = picture ? paced(rate, trip, answer) : FASTEST;
    if (picture && isWorthSaying(answer, rate.failures, trip)) show(page, answer, wait);
    await sleep(Math.max(wait - trip, answer?.wait ?? 0));
  }
}

const posting = (body) => ({ method: "POST", body, headers: { "Content-Type": "image/jpeg" } });

const hasPicture = () => $("mirror").readyState >= HTMLMediaElement.HAVE_CURRENT_DATA;

/** What the mirror shows, small and not mirrored, as JPEG; null before there is a picture. */
async function still() {
  if (!hasPicture()) return null;
  const { videoWidth: width, videoHeight: height } = $("mirror");
  const scale = Math.min(1, Math.sqrt(AREA / (width * height)));
  [canvas.width, canvas.height] = [Math.round(scale * width), Math.round(scale * height)];
  canvas.getContext("2d").drawImage($("mirror"), 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
}

/**
 * Milliseconds from the last picture to the next. Long answers lengthen them; a refusal doubles them, and each answer
 * takes a part of that back, so that a crowd of pages settles at what the site can bear.
 */
function paced(rate, trip, answer) {
  const failed = answer instanceof Error;
  const now = Math.max(FASTEST, rate.least, SHARE * rate.trip);
  rate.failures = failed ? rate.failures + 1 : 0;
  rate.least = failed ? Math.min(2 * now, SLOWEST) : 0.8 * rate.least;
  if (!failed) rate.trip += 0.3 * (trip - rate.trip);
  return Math.max(FASTEST, rate.least, SHARE * rate.trip);
}

/** One answer that is lost, or a refusal now and then, is nobody's concern. */
function isWorthSaying(answer, failures, trip) {
  if (!(answer instanceof Error)) return true;
  return failures >= (answer.code === 429 ? REFUSALS : FAILURES) || trip > PATIENCE;
}

function show(page, answer, wait) {
  page.note("server", complaint(answer));
  if (answer.code === 429) return;
  if (answer instanceof Error) {
    draw([]);
    return page.show({ lead: "No answer", mood: "Waiting" });
  }
  const { faces, image, reading } = answer;
  draw(faces, image);
  const steady = reading && (navigator.cookieEnabled ? reading : { ...reading, songs: null });
  page.show({ ...inWords(reading, faces), reading: steady, pace: `Your camera, ${inRate(wait)}` });
}

function showNothing(page) {
  draw([]);
  page.show(NONE);
}

function complaint(answer) {
  if (answer.code === 429) return CROWD;
  if (answer instanceof Refusal) return answer.message;
  if (answer instanceof Error) return NO_ANSWER;
  return navigator.cookieEnabled ? "" : NO_COOKIES;
}

function inRate(wait) {
  const [seconds, times] = [Math.round(wait / 1000), Math.round(1000 / wait)];
  if (seconds > 1) return `read every ${seconds} seconds`;
  return times > 1 ? `read ${times} times a second` : "read once a second";
}

/** The boxes and labels over the mirror; the words are not mirrored. */
function draw(faces, image) {
  const marks = $("faces").children;
  while (marks.length > faces.length) marks[marks.length - 1].remove();
  faces.forEach(({ box, emotion, confidence }, number) => {
    const mark = marks[number] ?? $("faces").appendChild($("mark").content.firstElementChild.cloneNode(true));
    place(mark, box, image, true);
    write(mark.firstElementChild, `${emotion} ${percent(confidence)}`);
  });
}

/** The stage takes the picture's shape, but for a picture that stands upright: its top and bottom are cut. */
function shape() {
  const { videoWidth: width, videoHeight: height } = $("mirror");
  if (!width) return;
  $("stage").style.setProperty("--shape", Math.max(1, width / height));
  $("mirror").parentElement.style.setProperty("--shape", width / height);
}

for (const event of ["loadedmetadata", "resize"]) $("mirror").addEventListener(event, shape);
