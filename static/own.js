// People's own Spotify: which of their devices sounds, and a mood kept as a playlist. Only where an app is configured.

import { begun, lent, next, play, rowOf } from "./player.js";
import { $, counted, kept, write } from "./site.js";

const TIMEOUT = 60000; // a long list is saved in several requests to Spotify
const AGAIN = 10000; // milliseconds until it is asked again how things stand, when nobody could say, or somebody returns
const SETTLES = 5000; // milliseconds for which Spotify may still name the song before
const HERE = ""; // the choice of hearing songs on this page
const CHOSEN = "visage-device"; // where this tab keeps the other choice

let csrf = "";
let lost = false; // whether nobody could say yet who is logged in
let standing = ""; // what was last said about how things stand; it goes once that is no longer so
let loggedOut = false; // when that was said
let saving = false;
let again = 0; // the timer of the next look, while nobody could say
let looking = null; // the last look, and when it began
let looked = -Infinity;
let listed = -Infinity; // when the devices were asked for last
let known = []; // which they were
let there = HERE; // the device that the foot of the window is about
let sent = null; // the song that it was given last, or had come to when it was asked
let sentAt = -Infinity; // when it was given that
let underway = 0; // songs on their way to it, and presses of the list's button

async function ask(what, body) {
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
    body: JSON.stringify(body),
  };
  const response = await fetch(`/spotify${what}`, { signal: AbortSignal.timeout(TIMEOUT), ...options });
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.error), { refused: [401, 403].includes(response.status) });
  return answer;
}

/** Do what a click asks for, once it is known who is logged in; what came of it, or why nothing did, is said. */
async function attempt(job, say = tell) {
  try {
    if (!csrf) await (lost ? look() : looking);
    if (lost) throw new Error($("told").textContent);
    await job();
    return true;
  } catch (error) {
    if (error.refused) await look(); // the login has ended, or another has begun: the page must not go on as if not
    say(why(error));
    return false;
  }
}

function why(error) {
  return error.name === "Error" ? error.message : "The site does not answer. Please try again.";
}

function tell(text, link = null) {
  write($("told"), text);
  if (link) $("told").append(" ", link);
}

/** What concerns a device is said at the foot of the window, where its buttons are. */
function report(text) {
  if ($("remote").hidden) tell(text);
  else write($("sent"), text);
}

function show({ logged_in, devices, told, csrf: token }) {
  csrf = token ?? "";
  $("stranger").hidden = logged_in;
  $("known").hidden = !logged_in;
  if (!logged_in) remember(null);
  offer(devices ?? known, logged_in ? chosen() : null);
  const over = devices && $("told").textContent === standing;
  if (told || over || (logged_in && loggedOut)) tell(told);
  if (devices) standing = told;
  loggedOut = !logged_in;
}

/** What a song can sound on. A device that was chosen stays so while it sleeps, or songs would sound elsewhere. */
function offer(devices, choice) {
  known = devices;
  const named = devices.map(({ id, name }) => new Option(name, id));
  const choices = [new Option("this page", HERE), new Option("my active device", "active"), ...named];
  if (choice && choices.every(({ value }) => value !== choice.value)) choices.push(choice);
  if (signature(choices) !== signature($("device").options)) $("device").replaceChildren(...choices); // may be open just now
  $("device").value = choice?.value ?? HERE;
  showRemote();
}

const signature = (options) => JSON.stringify([...options].map(({ value, text }) => [value, text]));

/** Where songs go: what the menu says, or before it is there, what was chosen in this tab. */
function chosen() {
  return $("device").selectedOptions[0] ?? remembered();
}

function remember(choice) {
  const words = JSON.stringify(choice && { id: choice.value, name: choice.textContent });
  kept(() => sessionStorage.setItem(CHOSEN, words));
}

function remembered() {
  const { id, name } = kept(() => JSON.parse(sessionStorage.getItem(CHOSEN))) ?? {};
  return id ? new Option(name, id) : null;
}

/**
 * See how things stand: the login, or Spotify on a device, may have come in another window. Spotify hears of it only when
 * its devices are wanted: once one is chosen, or somebody turns to the menu.
 */
function look(devices = Boolean(chosen()?.value)) {
  looked = performance.now();
  if (devices) listed = looked;
  return (looking = see(devices));
}

async function see(devices) {
  clearTimeout(again);
  try {
    const state = await ask(devices ? "?devices=1" : "");
    if (lost) tell("");
    lost = false;
    show(state);
    if (devices && chosen()?.value) await catchUp();
  } catch (error) {
    lost = $("stranger").hidden && $("known").hidden;
    if (lost) tell(why(error));
    if (lost && !document.hidden) again = setTimeout(look, AGAIN);
  }
}

/** The device goes on through the list by itself: which song has it come to, and does it rest? */
async function catchUp() {
  if (performance.now() - sentAt < SETTLES) return sent;
  const before = sentAt;
  const { song, paused } = await ask("/playing");
  if (sentAt !== before) return sent; // another was sent meanwhile
  sent = song;
  halted(paused);
  return song;
}

const isLong = (since) => performance.now() - since > AGAIN;

async function logOut() {
  show(await ask("/logout", {}));
  $("stranger").querySelector("a")?.focus({ preventScroll: true }); // the button that had it is gone
  tell("Logged out.");
}

function showRemote() {
  const { value, text } = chosen() ?? { value: HERE };
  $("remote").hidden = !value;
  if (value === there) return;
  there = value;
  if (!there) sent = null;
  halted(false);
  const say = $("player").hidden ? report : tell; // the open player stands in the place of the foot
  if (there) say(`Songs go to ${isolated(text)}.`);
}

const device = () => (chosen().value === "active" ? null : chosen().value);
const isolated = (name) => `\u2068${name}\u2069`; // a name from right to left turns nothing around but itself

/** A song that is asked for goes to the chosen device with those after it, and so not to the player on this page. */
async function onSong(event) {
  if (!chosen()?.value) return;
  event.preventDefault();
  const { ids, title, row } = event.detail;
  sent = ids[0];
  sentAt = performance.now();
  const mine = sentAt; // what comes after another was pressed is about a song of before
  underway += 1;
  const done = await attempt(async () => {
    if (!chosen().value) return play(row); // the login had ended, and the choice with it
    report("Sending.");
    await ask("/play", { songs: ids, device: device() });
    begun(event.detail);
    if (sentAt !== mine) return;
    halted(false);
    report(`${isolated(title)} plays on ${isolated(chosen().text)}${ids[1] ? ", then others of its list" : ""}.`);
  }, (text) => sentAt === mine && report(text));
  underway -= 1;
  if (done || sentAt !== mine) return;
  sentAt = -Infinity;
  lent((sent = null));
}

/** The list's own button: a song of it pauses and goes on there, else the following one begins. */
async function onBegin(event) {
  if (!chosen()?.value) return;
  event.preventDefault();
  if (underway) return;
  const job = rowOf(sent) ? halt : further;
  underway += 1;
  await attempt(() => (chosen().value ? job() : next()), report);
  underway -= 1;
}

async function further() {
  const on = await catchUp().catch((error) => {
    if (error.refused) throw error;
    return sent; // nobody could say
  });
  next(on);
}

async function halt() {
  const playing = $("halt").hasAttribute("data-playing");
  try {
    await ask(playing ? "/pause" : "/resume", { device: device() });
  } catch (error) {
    if (!error.refused) await catchUp().catch(() => {}); // it may have been paused on the device itself
    throw error;
  }
  halted(playing);
  report(`${playing ? "Paused" : "Goes on"} on ${isolated(chosen().text)}.`);
}

function halted(rests) {
  lent(sent, rests);
  $("halt").toggleAttribute("data-playing", !rests);
  $("halt").setAttribute("aria-label", `${rests ? "Resume" : "Pause"} your device`);
}

async function save() {
  const { emotion, lifted } = $("songs").querySelector(".list").dataset;
  if (saving) return;
  if (!emotion) return tell("There is no mood yet.");
  saving = true;
  tell("Saving.");
  const saved = ask("/save", { emotion, lifted: lifted === "yes" });
  const { name, url, count } = await saved.finally(() => (saving = false));
  const link = Object.assign(document.createElement("a"), { href: url, target: "_blank", rel: "noopener noreferrer" });
  link.textContent = name;
  tell(`${counted(count, "song")} saved as`, link);
}

$("songs").addEventListener("song", onSong);
$("songs").addEventListener("begin", onBegin);
$("device").addEventListener("change", () => {
  showRemote();
  remember(chosen());
});
$("device").addEventListener("focus", () => isLong(listed) && look(true));
$("halt").addEventListener("click", () => attempt(halt, report));
$("further").addEventListener("click", () => attempt(further, report));
$("save").addEventListener("click", () => attempt(save));
$("leave").addEventListener("click", () => attempt(logOut));
document.addEventListener("visibilitychange", () => document.hidden || look());
addEventListener("focus", () => isLong(looked) && look());
showRemote();
look();
