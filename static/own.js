// People's own Spotify: which of their devices sounds, and a mood kept as a playlist. Only where an app is configured.

import { next } from "./player.js";
import { $, counted } from "./site.js";

const TIMEOUT = 60000; // a long list is saved in several requests to Spotify
const AGAIN = 10000; // milliseconds until it is asked again how things stand, when nobody could say
const HERE = ""; // the choice of hearing songs on this page
const CHOSEN = "visage-device"; // where this tab keeps the other choice

let csrf = "";
let lost = false; // whether nobody could say yet who is logged in
let standing = ""; // what was last said about how things stand; it goes once that is no longer so
let loggedOut = false; // when that was said
let saving = false;
let again = 0; // the timer of the next look, while nobody could say

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

/** Do what a click asks for; what came of it, or why nothing did, is said in one place. */
async function attempt(job) {
  try {
    await job();
  } catch (error) {
    if (error.refused) await look(); // the login has ended, or another has begun: the page must not go on as if not
    tell(why(error));
  }
}

function why(error) {
  return error.name === "Error" ? error.message : "The site does not answer. Please try again.";
}

function tell(text, link = null) {
  if (link || $("told").textContent !== text) $("told").textContent = text;
  if (link) $("told").append(" ", link);
}

function show({ logged_in, devices, told, csrf: token }) {
  csrf = token ?? "";
  $("stranger").hidden = logged_in;
  $("known").hidden = !logged_in;
  if (!logged_in) remember(null);
  offer(devices, logged_in ? ($("device").selectedOptions[0] ?? remembered()) : null);
  if (told || $("told").textContent === standing || (logged_in && loggedOut)) tell(told);
  [standing, loggedOut] = [told, !logged_in];
}

/** What a song can sound on. A device that was chosen stays so while it sleeps, or songs would sound elsewhere. */
function offer(devices, chosen) {
  const named = devices.map(({ id, name }) => new Option(name, id));
  const choices = [new Option("this page", HERE), new Option("my active device", "active"), ...named];
  if (chosen && choices.every(({ value }) => value !== chosen.value)) choices.push(chosen);
  $("device").replaceChildren(...choices);
  $("device").value = chosen?.value ?? HERE;
  chosenDevice();
}

function remember(choice) {
  try {
    sessionStorage.setItem(CHOSEN, JSON.stringify(choice && { id: choice.value, name: choice.textContent }));
  } catch {
    // a browser that keeps nothing: the choice lasts as long as the page
  }
}

function remembered() {
  try {
    const { id, name } = JSON.parse(sessionStorage.getItem(CHOSEN));
    return new Option(name, id);
  } catch {
    return null;
  }
}

/** See how things stand: the login, or Spotify on a device, may have come in another window. */
async function look() {
  clearTimeout(again);
  try {
    const state = await ask("");
    if (lost) tell("");
    lost = false;
    show(state);
  } catch (error) {
    lost = $("stranger").hidden && $("known").hidden;
    if (lost) tell(why(error));
    if (lost && !document.hidden) again = setTimeout(look, AGAIN);
  }
}

async function logOut() {
  show(await ask("/logout", {}));
  $("stranger").querySelector("a")?.focus({ preventScroll: true }); // the button that had it is gone
  tell("Logged out.");
}

function chosenDevice() {
  $("further").hidden = $("device").value === HERE;
}

/** A song that is asked for goes to the chosen device, and so not to the player on this page. */
function onSong(event) {
  const { id, title } = event.detail;
  const choice = $("device").selectedOptions[0];
  if (!choice || choice.value === HERE) return;
  event.preventDefault();
  attempt(async () => {
    await ask("/play", { song: id, device: choice.value === "active" ? null : choice.value });
    tell(`${title} plays on ${choice.textContent}.`);
  });
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
$("device").addEventListener("change", () => {
  chosenDevice();
  remember($("device").selectedOptions[0]);
});
$("further").addEventListener("click", next);
$("save").addEventListener("click", () => attempt(save));
$("leave").addEventListener("click", () => attempt(logOut));
document.addEventListener("visibilitychange", () => document.hidden || look());
look();
