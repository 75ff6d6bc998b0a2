// The player: one frame of Spotify's, made at the first click on a song, and what goes on in it. Each song is
// announced by an event first; whoever prevents its default plays it elsewhere.
//
// Spotify's own script would do this too, but it would run in our page, and it needs `unsafe-eval`. So we speak to
// the frame as that script does: it posts "ready", "playback_update" and "error", and takes {command: ...}.

import { $, isPlain, setCurrent } from "./site.js";

const SLOW = 3000; // milliseconds: a frame that is not ready by then keeps somebody waiting
const ANSWER = 10000; // milliseconds: a frame that is not ready by then is blocked, or Spotify is down
const START = 4000; // a song that has not begun by then waits for a click in the frame
const LISTENED = 5000; // a frame that stops at the start after this much is through with the song
const SKIP = 2000; // from a song that cannot be played to the next
const FAILURES = 5; // so many such songs in a row, and no other is tried
const HALF_A_MINUTE = "Without a Spotify login in this browser you hear 30 seconds of each song.";
const WAITING = "Spotify has not answered yet.";
const NO_ANSWER = "Spotify does not answer. If you see its player, press play there; all else works without it.";
const NOT_THIS = "Spotify cannot play this song.";
const CLICK_THERE = "Your browser wants a click of yours: press play in Spotify's player.";

const embed = new URL($("player").dataset.embed).origin;

let frame = null; // Spotify's; null while the player is closed
let song = null; // the one in the frame: its id
let ready = false; // whether the frame has answered since the song was put in
let heard = null; // what it said last, and when: paused, position in milliseconds, over
let timer = 0;
let failures = 0; // songs in a row that could not be played
let introduced = false;
const places = new Map(); // mood -> the song last played from its list

// -- the list ------------------------------------------------------------------------------------

const list = () => $("songs").querySelector(".list");
const rows = () => [...list().querySelectorAll("tbody tr")];

function play(row) {
  const id = row.dataset.track;
  if (!/^[0-9A-Za-z]{22}$/.test(id)) return;
  places.set(list().dataset.emotion, id);
  const detail = { id, title: row.querySelector(".title").textContent };
  if (!$("songs").dispatchEvent(new CustomEvent("song", { detail, cancelable: true }))) return close();
  song = id;
  $("playing").textContent = detail.title;
  load();
}

/** The following song of the list on the page: after the one last played from it, and round again at its end. */
export function next() {
  const all = rows();
  const last = all.findIndex((row) => row.dataset.track === places.get(list().dataset.emotion));
  if (all.length) play(all[(last + 1) % all.length]);
}

/** Show in the list which song plays. */
function mark() {
  for (const row of rows()) {
    const current = row.dataset.track === song;
    const button = row.querySelector(".play");
    const title = row.querySelector(".title").textContent;
    row.toggleAttribute("data-current", current);
    setCurrent(row, current);
    show(button, current && sounds(), title);
  }
  show($("toggle"), sounds());
}

function show(button, playing, title = "") {
  button.toggleAttribute("data-playing", playing);
  button.setAttribute("aria-label", `${playing ? "Pause" : "Play"} ${title}`.trim());
}

// -- the frame -----------------------------------------------------------------------------------

function load() {
  const address = `${embed}/embed/track/${song}`;
  ready = false;
  heard = null;
  if (frame) frame.contentWindow.location.replace(address); // setting `src` would lengthen the browser's history
  else open(address);
  wait(SLOW, stillWaiting);
  mark();
}

function stillWaiting() {
  say(WAITING);
  wait(ANSWER - SLOW, giveUp);
}

/** The frame stays: it may be there and only silent. */
function giveUp() {
  say(NO_ANSWER);
  unfold(true);
}

function open(address) {
  frame = document.createElement("iframe");
  frame.title = "Spotify's player";
  frame.allow = "autoplay; clipboard-write; encrypted-media; fullscreen; picture-in-picture";
  frame.src = address;
  $("embed").append(frame);
  $("player").hidden = false;
}

function close() {
  clearTimeout(timer);
  frame?.remove();
  frame = song = heard = null;
  $("player").hidden = true;
  unfold(false);
  say("");
  mark();
}

/** On a narrow screen only the deck stays in sight while the songs go by; the frame comes when it is wanted. */
function unfold(whole) {
  $("player").toggleAttribute("data-whole", whole);
  $("unfold").setAttribute("aria-expanded", String(whole));
}

function tell(command) {
  frame.contentWindow.postMessage({ command }, embed);
}

function toggle() {
  if (ready) tell("toggle");
  else if ($("sound").textContent === NO_ANSWER) load(); // perhaps it does now
}

function hear({ source, origin, data }) {
  if (!frame || source !== frame.contentWindow || origin !== embed) return;
  if (data?.type === "ready") begin();
  else if (!ready) return; // of the song before
  else if (data?.type === "playback_update") follow(data.payload);
  else if (data?.type === "error" && !data.payload?.recoverable) fail();
}

function begin() {
  ready = true;
  say("");
  tell("load_complete_ack");
  tell("play");
  wait(START, wantClick);
}

function wantClick() {
  say(CLICK_THERE);
  unfold(true);
}

function fail() {
  clearTimeout(timer);
  say(NOT_THIS);
  heard = null;
  mark();
  failures += 1;
  if (failures < FAILURES) wait(SKIP, goOn);
}

function goOn() {
  if ($("auto").checked) next();
}

function follow({ isPaused, position, duration }) {
  const over = isOver(isPaused, position, duration);
  heard = { paused: isPaused || over, position, at: performance.now(), over };
  if (!isPaused) started();
  if (position > 0) failures = 0;
  mark();
  if (over) goOn();
}

function started() {
  clearTimeout(timer);
  if (!introduced) say(HALF_A_MINUTE);
  else if ($("sound").textContent !== HALF_A_MINUTE) say("");
  introduced = true;
}

/** At a song's end, or that of its 30 seconds, the frame rests there or goes back to the start. */
function isOver(isPaused, position, duration) {
  if (!heard || heard.paused || !(duration > 0)) return false;
  const reached = heard.position + performance.now() - heard.at;
  return position >= duration || (isPaused && (position > duration - 500 || (position < 1000 && reached > LISTENED)));
}

const sounds = () => Boolean(heard && !heard.paused);

function wait(milliseconds, job) {
  clearTimeout(timer);
  timer = setTimeout(job, milliseconds);
}

function say(text) {
  if ($("sound").textContent !== text) $("sound").textContent = text;
}

// -- keys and clicks -----------------------------------------------------------------------------

function onClick({ target }) {
  const row = target.closest(".play")?.closest("tr");
  if (!row) return;
  if (row.dataset.track === song && ready && !heard?.over) toggle();
  else play(row);
}

function onClose() {
  close();
  list().querySelector("h2").focus({ preventScroll: true });
}

/** Up and down go from row to row, left and right between a row's two things. */
function onArrow(event) {
  const row = event.target.closest("tbody tr");
  if (!row || !isPlain(event)) return;
  const control = event.target.matches(".play") ? ".play" : "a";
  const goal = {
    ArrowUp: row.previousElementSibling?.querySelector(control),
    ArrowDown: row.nextElementSibling?.querySelector(control),
    ArrowLeft: row.querySelector(".play"),
    ArrowRight: row.querySelector("a"),
  }[event.key];
  if (!goal) return;
  event.preventDefault();
  goal.focus();
}

/** Space pauses wherever it has no other meaning: a button that has the focus is pressed by it. */
function onSpace(event) {
  if (event.key !== " " || !frame || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, summary, button")) return;
  event.preventDefault();
  if (!event.repeat) toggle();
}

// -- the start -----------------------------------------------------------------------------------

$("songs").addEventListener("click", onClick);
$("songs").addEventListener("keydown", onArrow);
$("toggle").addEventListener("click", toggle);
$("next").addEventListener("click", next);
$("unfold").addEventListener("click", () => unfold(!$("player").hasAttribute("data-whole")));
$("close").addEventListener("click", onClose);
document.addEventListener("keydown", onSpace);
addEventListener("message", hear);
new MutationObserver(mark).observe($("songs"), { childList: true });
