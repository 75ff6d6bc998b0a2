// The page: which camera looks, when it starts and rests, what is seen, and the songs that follow it.

import * as mine from "./mine.js";
import { showBars, showMood } from "./mood.js";
import * as server from "./server.js";
import { $, isPlain, setCurrent, sleep, write } from "./site.js";
import { inHand, list, loadSongs, markChips, NO_SONGS } from "./songs.js";

const RETRY_SONGS = 1000; // milliseconds

const ways = { mine, server };
const notes = { server: "", picture: "", songs: "", camera: "" }; // most urgent first
const screen = { note, show, phase }; // what a way of looking may do to the page

const usual = $("watch").dataset.way; // unless the address says another
let way = usual;
let wanted = false; // started, and not paused
let watching = false; // and not hidden
let hiding = 0;
let seen = ""; // the mood whose songs fit what was seen last
let following = false;
let late = false; // whether the songs for a face could not be fetched
let turning = 0; // how many lists that were asked for by hand are on their way
let pinned = list().chosen ? list().emotion : null; // the mood that was chosen, and the switch, as they are shown
let lifted = $("lift").checked;
let wished = pinned; // the mood asked for last; the switch itself stands as it was asked for

// -- watching ------------------------------------------------------------------------------------

function start() {
  $("reading").hidden = false;
  $("pause").hidden = false;
  resume();
  $("pause").focus({ preventScroll: true });
  $("stage").scrollIntoView({ block: "nearest" });
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
  ways[way].release();
}

function watch() {
  watching = true;
  clearTimeout(hiding);
  $("watch").dataset.started = "";
  show({ lead: "One moment", mood: "Starting" });
  ways[way].watch(screen);
}

function unwatch() {
  watching = false;
  ways[way].unwatch();
  phase("paused");
  show({ lead: "On this page", mood: "Paused" });
  for (const about of Object.keys(notes)) note(about, "");
}

/** A hidden page lets go of the camera, and takes it again when it is shown. */
function onVisibility() {
  clearTimeout(hiding);
  if (!wanted) return;
  if (!document.hidden && !watching) watch();
  else if (document.hidden && ways[way].grace) hiding = setTimeout(unwatch, ways[way].grace);
  else if (document.hidden) unwatch();
}

/** Another camera: it says what it is, and waits to be started. */
function take(chosen) {
  if (wanted) pause();
  way = chosen;
  seen = "";
  $("watch").dataset.way = way;
  delete $("watch").dataset.started;
  $("reading").hidden = $("pause").hidden = true;
  for (const link of $("ways").querySelectorAll("a[data-way]")) {
    setCurrent(link, link.dataset.way === way);
  }
  phase("asking");
  $("stage").style.removeProperty("--shape");
  seeObstacle();
  sayWay();
}

/** The camera that was chosen, in the address, so that a reload or a link keeps it. */
function sayWay() {
  const url = new URL(location);
  url.searchParams.set("way", way);
  history.replaceState(null, "", url);
}

function seeObstacle() {
  const obstacle = ways[way].obstacle();
  note("picture", "");
  note("camera", obstacle);
  $("start").hidden = Boolean(obstacle);
}

function phase(name) {
  $("stage").dataset.phase = name;
}

// -- what is seen --------------------------------------------------------------------------------

function show({ lead, mood, reading = null, pace = "" }) {
  showMood(lead, mood, reading);
  showBars(reading);
  write($("pace"), pace);
  seen = reading?.songs ?? seen;
  if (reading?.songs) follow();
}

function note(about, text) {
  notes[about] = text;
  write($("notice"), Object.values(notes).find(Boolean) ?? "");
  if (!notes.picture && document.activeElement === $("retry")) $("pause").focus({ preventScroll: true });
  $("retry").hidden = !notes.picture;
}

// -- the songs -----------------------------------------------------------------------------------

/** Where the songs are for the mood that is wished for, or else seen. */
function address() {
  return lifting(wished ? `/songs?emotion=${wished}` : `/songs?seen=${seen}`);
}

/** An address with the switch in it as it stands, so that a reload or a link keeps it. */
function lifting(address) {
  const url = new URL(address, location);
  if ($("lift").checked) url.searchParams.set("lift", "1");
  else url.searchParams.delete("lift");
  return url.href;
}

/** The list follows the face, one at a time, unless a mood is chosen, or asked for, or a hand is at the list. */
async function follow() {
  if (late && !turning && seen === list().emotion) {
    late = false;
    note("songs", ""); // what could not be fetched is not wanted any more
  }
  if (following || turning || pinned || wished || seen === list().emotion || inHand()) return;
  following = true;
  if ((await tune(true)) === false) await sleep(RETRY_SONGS);
  following = false;
}

/** Show the songs that fit, or give up the wish: whether they are there, null when a later wish came between. */
async function tune(onlyAFace = false) {
  const loaded = await loadSongs(address(), onlyAFace);
  if (loaded === null) return null;
  if (loaded) [pinned, lifted] = [wished, $("lift").checked];
  else [wished, $("lift").checked] = [pinned, lifted];
  late = onlyAFace && !loaded;
  note("songs", loaded ? "" : NO_SONGS);
  markChips(pinned);
  return loaded;
}

/** Turn to a mood, or with null to the face. The address then says what is shown, also after a Back that failed. */
async function turnTo(emotion) {
  wished = emotion;
  turning += 1;
  const loaded = await tune();
  turning -= 1;
  if (loaded === null) return;
  const url = new URL(lifting(location));
  const said = url.searchParams.get("emotion");
  if (pinned) url.searchParams.set("emotion", pinned);
  else url.searchParams.delete("emotion");
  if (said === pinned) history.replaceState(null, "", url);
  else history.pushState(null, "", url);
}

function choose(event) {
  const link = event.target.closest("a");
  if (!link || !isPlain(event)) return;
  event.preventDefault();
  turnTo(link.dataset.emotion ?? null);
}

/** Back and forward go through the moods that were chosen. */
function goBack() {
  const asked = new URLSearchParams(location.search);
  if ((asked.get("way") ?? usual) !== way) sayWay(); // Back does not turn to another camera
  const [chosen, lift] = [asked.get("emotion"), asked.get("lift") === "1"];
  if (chosen === wished && lift === $("lift").checked) return;
  $("lift").checked = lift;
  turnTo(chosen);
}

// -- the start -----------------------------------------------------------------------------------

if (location.pathname !== "/") history.replaceState(null, "", "/"); // the answer of a login is no place to come back to

function onWay(event) {
  const chosen = event.target.closest("a[data-way]")?.dataset.way;
  if (!chosen || !isPlain(event)) return;
  event.preventDefault();
  if (chosen !== way) take(chosen);
}

$("ways").addEventListener("click", onWay);
$("start").addEventListener("click", start);
$("pause").addEventListener("click", () => (wanted ? pause() : resume()));
$("retry").addEventListener("click", () => ways[way].retry(screen));
$("chips").addEventListener("click", choose);
$("lift").addEventListener("change", () => turnTo(wished));
addEventListener("popstate", goBack);
document.addEventListener("visibilitychange", onVisibility);
seeObstacle();
