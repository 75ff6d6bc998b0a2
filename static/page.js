// The page: starts and pauses the picture, reads the mood, and keeps the songs in step with it.

const POLL = 400; // milliseconds between two looks at the state
const SLOWEST_POLL = 8000;
const TIMEOUT = 5000;
const HIDDEN_GRACE = 4000; // a hidden page lets go of the picture after this
const RETRY_SOON = 1500;
const RETRY_FULL = 10000; // what the site asks for when too many watch
const IDLE_POLLS = 4; // a camera that sleeps this long although we watch has lost us

const $ = (id) => document.getElementById(id);
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const named = (emotion) => emotion[0].toUpperCase() + emotion.slice(1);
const percent = (share) => `${Math.round(100 * share)}%`;

let wanted = false; // started, and not paused
let round = null; // the polling in force; null while we do not watch
let pictures = 0;
let retry = 0;
let asked = 0;
let pinned = list().chosen ? list().emotion : null;
const notes = { server: "", picture: "", songs: "", camera: "" }; // most urgent first

// -- asking the site -----------------------------------------------------------------------------

let queue = Promise.resolve();

/** One request at a time: with the picture, the page holds two connections at most. */
function inTurn(job) {
  const answer = queue.then(job);
  queue = answer.catch(() => {});
  return answer;
}

function ask(url, options) {
  return inTurn(async () => {
    const response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT), ...options });
    if (!response.ok) throw new Error(`${url} answered ${response.status}`);
    const json = response.headers.get("Content-Type")?.includes("json");
    return json ? response.json() : response.text();
  });
}

// -- watching ------------------------------------------------------------------------------------

function start() {
  $("welcome").hidden = true;
  $("reading").hidden = false;
  $("pause").hidden = false;
  resume();
  $("pause").focus();
}

function resume() {
  wanted = true;
  $("pause").textContent = "Pause";
  watch();
}

function pause() {
  wanted = false;
  $("pause").textContent = "Resume";
  unwatch();
  ask("/pause", { method: "POST" }).catch(() => {}); // without it the camera is released some seconds later
}

function watch() {
  showMood("One moment", "Starting");
  openPicture();
  keepReading();
}

function unwatch() {
  round = null;
  closePicture("paused");
  showMood("On this page", "Paused");
  showBars(null);
  for (const about of Object.keys(notes)) note(about, "");
}

async function keepReading() {
  const mine = (round = Symbol("round"));
  let failures = 0;
  let idle = 0;
  while (round === mine) {
    const state = await ask("/state").catch(() => null);
    if (round !== mine) return;
    if (state && failures) siteFound();
    failures = state ? 0 : failures + 1;
    idle = state?.camera.status === "idle" ? idle + 1 : 0;
    if (idle && idle % IDLE_POLLS === 0 && !notes.picture) openPicture();
    if (state) await show(state);
    else siteLost();
    await sleep(Math.min(POLL * 2 ** failures, SLOWEST_POLL));
  }
}

function siteLost() {
  note("server", "The site does not answer. This page keeps trying.");
  closePicture("lost");
  showMood("No answer", "Waiting");
  showBars(null);
}

function siteFound() {
  note("server", "");
  note("songs", "");
  openPicture();
}

// -- the picture ---------------------------------------------------------------------------------

function openPicture() {
  clearTimeout(retry);
  note("picture", "");
  pictures += 1; // a new address: a browser may go on with the picture that was lost
  $("video").src = `/video_feed?n=${pictures}`;
  $("stage").dataset.phase = "live";
}

function closePicture(phase) {
  clearTimeout(retry);
  $("video").removeAttribute("src");
  $("stage").dataset.phase = phase;
}

async function pictureLost() {
  if (!round) return;
  closePicture("lost");
  const why = await inTurn(whyNoPicture);
  if (!round) return;
  note("picture", why);
  retry = setTimeout(openPicture, why ? RETRY_FULL : RETRY_SOON);
}

/** An image cannot say why it failed, so its address is asked: what the site says when full, else "". */
async function whyNoPicture() {
  const end = new AbortController();
  const limit = setTimeout(() => end.abort(), TIMEOUT);
  try {
    const response = await fetch("/video_feed", { signal: end.signal });
    return response.status === 503 ? await response.text() : "";
  } catch {
    return ""; // the site is gone: the polling says so
  } finally {
    clearTimeout(limit);
    end.abort();
  }
}

let hiding = 0;

function onVisibility() {
  clearTimeout(hiding);
  if (!wanted) return;
  if (document.hidden) hiding = setTimeout(unwatch, HIDDEN_GRACE);
  else if (!round) watch();
}

// -- the mood ------------------------------------------------------------------------------------

async function show({ reading, faces, camera, songs }) {
  note("camera", camera.message);
  if (reading) showMood("Looks like", named(reading.emotion), reading);
  else if (camera.status === "error" || notes.picture) showMood("The camera", "No picture");
  else if (camera.status !== "live") showMood("One moment", "Starting");
  else if (faces.length) showMood("One moment", "Looking");
  else showMood("Nobody in sight", "No face yet");
  showBars(reading);
  $("pace").textContent = `${camera.source}, ${Math.round(camera.fps)} pictures a second`;
  if (songs && !pinned && songs !== list().emotion) await loadSongs("/songs", true);
}

function showMood(lead, mood, reading = null) {
  $("lead").textContent = lead;
  $("mood").textContent = mood;
  $("confidence").textContent = reading ? certainty(reading) : "";
  $("reading").dataset.mood = reading?.emotion ?? "";
}

/** While another mood leads and waits for its turn, a percentage of this one would only puzzle. */
function certainty({ confidence, probabilities }) {
  return confidence < Math.max(...Object.values(probabilities)) ? "and changing" : `${percent(confidence)} sure`;
}

function showBars(reading) {
  for (const row of $("bars").children) {
    const share = reading?.probabilities[row.dataset.emotion];
    row.style.setProperty("--share", share ?? 0);
    row.querySelector(".share").textContent = share === undefined ? "–" : percent(share);
    row.classList.toggle("leads", reading?.emotion === row.dataset.emotion);
  }
}

// -- what went wrong -----------------------------------------------------------------------------

function note(about, text) {
  notes[about] = text.trim();
  const first = Object.values(notes).find(Boolean) ?? "";
  if ($("notice").textContent !== first) $("notice").textContent = first;
  $("retry").hidden = !notes.picture;
}

// -- the songs -----------------------------------------------------------------------------------

/** What the song list on the page says of itself: emotion, chosen, count. */
function list() {
  return $("songs").querySelector(".list").dataset;
}

function choose(event) {
  const link = event.target.closest("a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const before = pinned;
  pinned = link.dataset.emotion ?? null;
  loadSongs(pinned ? `/songs?emotion=${pinned}` : "/songs", false).then((loaded) => {
    if (loaded) history.replaceState(null, "", link.href);
    else pinned = before;
  });
}

/** Replace the song list. A `following` one gives way to a choice made meanwhile, and stays when the face has gone. */
async function loadSongs(url, following) {
  const mine = (asked += 1);
  const fragment = await ask(url, { headers: { Accept: "text/html" } }).catch(() => null);
  if (mine !== asked) return true;
  note("songs", fragment === null ? "The songs could not be fetched. Please try again." : "");
  if (fragment === null) return false;
  const fresh = new DOMParser().parseFromString(fragment, "text/html").querySelector(".list");
  if (following && !fresh.dataset.emotion) return true;
  const changed = fresh.dataset.emotion !== list().emotion;
  replaceList(fresh);
  markChips();
  if (changed) announce();
  return true;
}

/** Swap the lists and keep the reader's place: the scroll position, and the focus on the same thing in the same row. */
function replaceList(fresh) {
  const old = $("songs").querySelector(".list");
  const row = document.activeElement?.closest("#songs tr");
  const control = document.activeElement?.matches(".play") ? ".play" : "a";
  const [within, top] = [old.contains(document.activeElement), scrollY];
  const place = row ? [...old.querySelectorAll("tbody tr")].indexOf(row) : -1;
  old.replaceWith(fresh);
  const rows = fresh.querySelectorAll("tbody tr");
  const next = rows[Math.min(place, rows.length - 1)]?.querySelector(control) ?? fresh.querySelector("h2");
  if (within) next.focus({ preventScroll: true });
  scrollTo({ top, behavior: "instant" });
}

function markChips() {
  const { emotion } = list();
  document.body.dataset.mood = emotion;
  for (const chip of $("chips").querySelectorAll("a")) {
    chip.toggleAttribute("data-tuned", Boolean(emotion) && chip.dataset.emotion === emotion);
    if ((chip.dataset.emotion ?? null) === pinned) chip.setAttribute("aria-current", "true");
    else chip.removeAttribute("aria-current");
  }
}

function announce() {
  const { emotion, count } = list();
  $("announce").textContent = emotion ? `${named(emotion)}. ${count} ${count === "1" ? "song" : "songs"}.` : "No mood yet.";
}

// -- the start -----------------------------------------------------------------------------------

$("start").addEventListener("click", start);
$("pause").addEventListener("click", () => (wanted ? pause() : resume()));
$("retry").addEventListener("click", openPicture);
$("video").addEventListener("error", pictureLost);
$("chips").addEventListener("click", choose);
document.addEventListener("visibilitychange", onVisibility);
