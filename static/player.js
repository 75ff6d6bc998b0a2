// The player: one frame of Spotify's, made at the first click on a song, and what goes on in it. Each song is
// announced by an event first, and so is the button of a list none of whose songs is in the frame; whoever prevents
// its default sees to it elsewhere.
//
// Spotify's own script would do this too, but it would run in our page, and it needs `unsafe-eval`. So we speak to
// the frame as that script does: it posts "ready", "playback_update" and "error", and takes {command: ...}.

import { $, isPlain, kept, setCurrent, write } from "./site.js";

const SLOW = 3000; // milliseconds: a frame that is not ready by then keeps somebody waiting
const ANSWER = 10000; // milliseconds: a frame that is not ready by then is blocked, or Spotify is down
const START = 4000; // a song that has not begun by then waits for a click in the frame
const LISTENED = 5000; // a frame that stops at the start after this much is through with the song
const SKIP = 2000; // from a song that cannot be played to the next
const RETRY = 30000; // until auto play tries a song again for which Spotify did not answer, then twice as long, and so on
const SLOWEST_RETRY = 600000;
const FAILURES = 5; // so many such songs in a row, and no other is tried
const HALF_A_MINUTE = "Without a Spotify login in this browser you hear 30 seconds of each song.";
const WAITING = "Spotify has not answered yet.";
const NO_ANSWER = "Spotify does not answer. If you see its player, press play there; all else works without it.";
const NOT_THIS = "Spotify cannot play this song.";
const CLICK_THERE = "Your browser wants a click of yours: press play in Spotify's player.";

const ID = /^[0-9A-Za-z]{22}$/;
const MOST = 100; // songs that a device takes at once
const SHUFFLE = "visage-shuffle"; // where this browser keeps that songs are shuffled

const embed = new URL($("player").dataset.embed).origin;
const switches = [...document.querySelectorAll(".shuffle")]; // one by the player, one by the buttons for a device
const tabs = kept(() => new BroadcastChannel("visage-song")); // when one begins to sound, the site's others pause

let frame = null; // Spotify's; null while the player is closed
let song = null; // the one in the frame, or else on a device: its id
let ready = false; // whether the frame has answered since the song was put in
let heard = null; // what it said last, and when: paused, position in milliseconds, over
let timer = 0;
let failures = 0; // songs in a row that could not be played
let retries = 0; // of the one in the frame
let introduced = false;
let afar = false; // whether a device sounds
let line = []; // what a device goes on with by itself
let from = ""; // the list that those are of
const places = new Map(); // list -> the song last played from it
const played = new Set(); // songs that shuffling leaves until all others of their list were played
const past = []; // what was in the frame before: ids and titles
let stop = null; // the row that the Tab key stops at
const titled = document.title;

// -- the list ------------------------------------------------------------------------------------

const list = () => $("songs").querySelector(".list");
const rows = () => [...list().querySelectorAll("tbody tr")];

export function play(row, back = false) {
  const id = idOf(row);
  if (!ID.test(id)) return;
  const title = titleOf(row);
  const detail = { ids: onFrom(row), title, row };
  if (!isMine("song", detail)) return lend(id);
  begun(detail);
  if (!back && frame && song !== id && !says(NOT_THIS)) past.push({ id: song, title: $("playing").textContent });
  put(id, title);
}

/** Into the frame. */
function put(id, title) {
  song = id;
  retries = 0;
  $("playing").textContent = title;
  document.title = `${title} – Visage FM`;
  load();
}

/** The song that was in the frame before this one, of whatever list. */
function previous() {
  if (!past.length) return;
  const { id, title } = past.pop();
  const row = rowOf(id);
  if (row) play(row, true); // so that the next is the one after it
  else put(id, title);
}

/** Whether nobody sees to it elsewhere. */
function isMine(what, detail) {
  return $("songs").dispatchEvent(new CustomEvent(what, { detail, cancelable: true }));
}

/** A song was taken, here or elsewhere, with those that may follow it by themselves. */
export function begun({ ids, row }) {
  line = ids;
  from = nameOf(row.closest(".list"));
  reach(ids[0]);
}

/** The line has come to a song. */
function reach(id) {
  const reached = line.indexOf(id) + 1;
  if (reached) places.set(from, id);
  line.slice(0, reached).forEach(count);
  line = line.slice(reached);
}

/** A song and those that follow it. */
function onFrom(row) {
  const all = [...row.parentElement.children];
  const ids = [row, ...after(all, all.indexOf(row))].map(idOf);
  return ids.filter((id) => ID.test(id)).slice(0, MOST);
}

/** The songs after a place in the list (-1 is none): those below it, or shuffled all others, the played ones last. */
function after(all, place) {
  if (!switches[0].checked || list().dataset.lifted) return all.slice(place + 1);
  const order = new Map(all.map((row) => [row, played.has(idOf(row)) + Math.random()]));
  return all.filter((_, at) => at !== place).sort((one, other) => order.get(one) - order.get(other));
}

/** A song was played. Once all of the list were, it begins anew. */
function count(id) {
  played.add(id);
  const ids = rows().map(idOf);
  if (ids.every((each) => played.has(each))) ids.forEach((each) => played.delete(each));
}

/** It is to sound elsewhere: the list shows it all the same. */
function lend(id) {
  close();
  song = id;
  mark();
}

/** The song that a device is at by now, or with null none, and whether it rests. */
export function lent(id, rests) {
  if (frame) return;
  reach(id);
  song = id;
  afar = Boolean(id) && !rests;
  mark();
}

/**
 * The following song of the list on the page: after the one that is `on`, else after the one last played from it. At its
 * end a list begins again; one that lifts, which is never shuffled, stays with the songs of its last step.
 */
export function next(on = null) {
  const all = rows();
  if (!all.length) return;
  const at = (id) => all.findIndex((row) => idOf(row) === id);
  const last = at(on) < 0 ? at(places.get(nameOf(list()))) : at(on);
  play(after(all, last)[0] ?? all.find((row) => stepOf(row) === stepOf(all.at(-1))));
}

export const rowOf = (id) => rows().find((row) => idOf(row) === id);
const playingRow = () => rowOf(song);
const nameOf = ({ dataset: { emotion, lifted } }) => [emotion, lifted].join();
const idOf = (row) => row.dataset.track;
const titleOf = (row) => row.querySelector(".title").textContent;
const stepOf = (row) => row.querySelector(".title").dataset.step;

/** Show in the list which song plays, and whether it is one of these. */
function mark() {
  const playing = playingRow();
  const whole = list().querySelector(".begin");
  if (whole) show(whole, Boolean(playing) && (frame ? sounds() : afar), "these songs");
  for (const row of rows()) {
    const current = row === playing;
    row.toggleAttribute("data-current", current);
    setCurrent(row, current);
    show(row.querySelector(".play"), current && sounds(), titleOf(row));
  }
  stopAt(document.activeElement?.closest("#songs tbody tr") ?? playing ?? rows()[0]);
  show($("toggle"), sounds(), $("playing").textContent);
  $("previous").setAttribute("aria-disabled", String(!past.length)); // and not `disabled`, which would take the focus
}

/** Of the list one row is a stop of the Tab key, for the arrows go from row to row. */
function stopAt(row) {
  if (row === stop) return;
  stop = row;
  for (const each of rows())
    for (const control of each.querySelectorAll(".play, a")) control.tabIndex = each === row ? 0 : -1;
}

function onFocus({ target }) {
  const row = target.closest("tbody tr");
  if (row) stopAt(row);
}

function show(button, playing, title) {
  button.toggleAttribute("data-playing", playing);
  button.setAttribute("aria-label", `${playing ? "Pause" : "Play"} ${title}`);
}

// -- the frame -----------------------------------------------------------------------------------

function load() {
  const address = `${embed}/embed/track/${song}`;
  ready = false;
  heard = null;
  if (frame) frame.contentWindow.location.replace(address); // setting `src` would lengthen the browser's history
  else open(address);
  mark();
  if (retries) return wait(ANSWER, giveUp); // what is said stays
  say("");
  wait(SLOW, stillWaiting);
}

function stillWaiting() {
  say(WAITING);
  wait(ANSWER - SLOW, giveUp);
}

/** The frame stays: it may be there and only silent. Auto play tries again, for a network that was gone may be back. */
function giveUp() {
  say(NO_ANSWER);
  if (!retries) unfold(true);
  retries += 1;
  wait(Math.min(RETRY * 2 ** (retries - 1), SLOWEST_RETRY), retry);
}

function retry() {
  const used = document.activeElement === frame; // it may be playing, and only silent to us
  if ($("auto").checked && frame && !used && says(NO_ANSWER)) load();
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
  past.length = 0;
  ready = false;
  document.title = titled;
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
  if (ready && !says(NOT_THIS)) tell("toggle");
  else if (says(NO_ANSWER) || says(NOT_THIS)) again(); // perhaps it does now
}

function again() {
  retries = 0;
  load();
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
  retries = 0;
  say("");
  tell("load_complete_ack");
  tell("play");
  wait(START, wantClick);
}

function wantClick() {
  if (heard?.buffering) return performance.now() - heard.at < ANSWER ? wait(START, wantClick) : giveUp();
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

function follow({ isPaused, isBuffering, position, duration }) {
  const over = isOver(isPaused, position, duration);
  if (!isPaused && !sounds()) tabs?.postMessage("");
  heard = { paused: isPaused || over, position, at: performance.now(), over, buffering: isBuffering };
  if (!isPaused) started();
  if (position > 0) failures = 0;
  mark();
  if (over) goOn();
}

function started() {
  clearTimeout(timer);
  if (!introduced) say(HALF_A_MINUTE);
  else if (!says(HALF_A_MINUTE)) say("");
  introduced = true;
}

/** At a song's end, or that of its 30 seconds, the frame rests there or goes back to the start. */
function isOver(isPaused, position, duration) {
  if (!heard || heard.paused || !(duration > 0)) return false;
  const reached = heard.position + performance.now() - heard.at;
  return position >= duration || (isPaused && (position > duration - 500 || (position < 1000 && reached > LISTENED)));
}

const sounds = () => Boolean(heard && !heard.paused);

/** Whether the frame's song can be paused and resumed, or will be once it has loaded. */
const lives = () => Boolean(frame) && !heard?.over && !says(NOT_THIS);

function wait(milliseconds, job) {
  clearTimeout(timer);
  timer = setTimeout(job, milliseconds);
}

function say(text) {
  write($("sound"), text);
}

const says = (text) => $("sound").textContent === text;

// -- keys and clicks -----------------------------------------------------------------------------

function onClick({ target }) {
  if (target.closest(".begin")) return onBegin();
  const row = target.closest(".play")?.closest("tr");
  if (!row) return;
  if (row === playingRow() && lives()) toggle();
  else play(row);
}

/** The list's own button: a song of it pauses and goes on, else the following one begins, and others after it. */
function onBegin() {
  if (playingRow() && lives()) return toggle();
  if (!isMine("begin")) return;
  $("auto").checked = true; // who asks for these songs wants more than one
  next();
}

function onClose() {
  const row = playingRow();
  close();
  (row?.querySelector(".play") ?? list().querySelector("h2")).focus({ preventScroll: true });
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
  if (event.key !== " " || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, summary, button")) return;
  if (!frame && !afar) return;
  event.preventDefault();
  if (event.repeat) return;
  if (frame) toggle();
  else $("halt").click();
}

/** Another page would end the song, so it opens in a tab of its own. */
function onLink({ target, defaultPrevented }) {
  const link = target.closest("a");
  if (defaultPrevented || link?.origin !== location.origin || link.hash) return;
  link.target = goesOn() ? "_blank" : "";
}

/** Whether a song plays in the frame, or is about to. */
function goesOn() {
  if (says(NOT_THIS)) return $("auto").checked && failures < FAILURES;
  return Boolean(frame) && !heard?.paused;
}

function shuffle(on) {
  for (const each of switches) each.checked = on;
}

function onShuffle({ target: { checked } }) {
  shuffle(checked);
  kept(() => localStorage.setItem(SHUFFLE, checked));
}

// -- the start -----------------------------------------------------------------------------------

$("songs").addEventListener("click", onClick);
$("songs").addEventListener("keydown", onArrow);
$("songs").addEventListener("focusin", onFocus);
$("toggle").addEventListener("click", toggle);
$("previous").addEventListener("click", previous);
$("next").addEventListener("click", () => next());
$("unfold").addEventListener("click", () => unfold(!$("player").hasAttribute("data-whole")));
$("close").addEventListener("click", onClose);
document.addEventListener("keydown", onSpace);
document.addEventListener("click", onLink);
addEventListener("message", hear);
addEventListener("online", retry);
$("auto").addEventListener("change", retry);
for (const each of switches) each.addEventListener("change", onShuffle);
shuffle(kept(() => localStorage.getItem(SHUFFLE)) === "true");
tabs?.addEventListener("message", () => ready && tell("pause"));
new MutationObserver(mark).observe($("songs"), { childList: true });
mark();
