// The song list: fetched, swapped without losing the reader's place, announced.

import { named } from "./mood.js";
import { $, counted, request, setCurrent } from "./site.js";

export const NO_SONGS = "The songs could not be fetched. Please try again.";

const HAND = 3000; // milliseconds that the list stays as it is after somebody's hand was at it

let asked = 0;
let touched = -Infinity; // when it was

/** What the song list on the page says of itself: emotion, chosen, count. */
export function list() {
  return $("songs").querySelector(".list").dataset;
}

/**
 * Replace the song list: true when it is done, false when it cannot be fetched, null when a later one came between.
 * A `following` one stays as it is when the face has gone, or a hand has come.
 */
export async function loadSongs(url, following = false) {
  const mine = (asked += 1);
  if (!following) busy(new URL(url, location).searchParams.get("emotion") ?? "");
  const fragment = await request(url, { headers: { Accept: "text/html" }, slow: true }).catch(() => "");
  if (mine !== asked) return null;
  busy(null);
  const fresh = new DOMParser().parseFromString(fragment, "text/html").querySelector(".list");
  if (!fresh) return false;
  if (following && (!fresh.dataset.emotion || inHand())) return true;
  const changed = fresh.dataset.emotion !== list().emotion || fresh.dataset.lifted !== list().lifted;
  replaceList(fresh);
  document.body.dataset.mood = fresh.dataset.emotion;
  if (changed) announce();
  return true;
}

/** Swap the lists and keep the reader's place: the scroll position, and the focus on the same thing in the same row. */
function replaceList(fresh) {
  const old = $("songs").querySelector(".list");
  const row = document.activeElement?.closest("#songs tr");
  const control = [".play", ".begin", "a"].find((each) => document.activeElement?.matches(each)) ?? "h2";
  const [within, top] = [old.contains(document.activeElement), scrollY];
  const place = row ? [...old.querySelectorAll("tbody tr")].indexOf(row) : -1;
  old.replaceWith(fresh);
  const rows = fresh.querySelectorAll("tbody tr");
  const next = (rows[Math.min(place, rows.length - 1)] ?? fresh).querySelector(control) ?? fresh.querySelector("h2");
  if (within) next.focus({ preventScroll: true });
  scrollTo({ top, behavior: "instant" });
}

/** Until songs come the list is busy, and so is the mood they were asked for by: "" is the face, null is none. */
function busy(emotion) {
  $("songs").setAttribute("aria-busy", String(emotion !== null));
  for (const chip of $("chips").querySelectorAll("a")) {
    chip.toggleAttribute("data-asked", (chip.dataset.emotion ?? "") === emotion);
  }
}

/** Whether somebody is about to press or read something in the list, if there is anything in it. */
export function inHand() {
  return Boolean(list().emotion) && performance.now() - touched < HAND;
}

/** Show on the dial which mood is tuned to, and whether by hand: null is the link that follows the face. */
export function markChips(chosen) {
  const { emotion } = list();
  for (const chip of $("chips").querySelectorAll("a")) {
    chip.toggleAttribute("data-tuned", Boolean(emotion) && chip.dataset.emotion === emotion);
    setCurrent(chip, (chip.dataset.emotion ?? null) === chosen);
  }
}

function announce() {
  const { emotion, count, lifted } = list();
  const mood = lifted ? `From ${emotion} to happy` : named(emotion || "No mood yet");
  $("announce").textContent = emotion ? `${mood}. ${counted(Number(count), "song")}.` : `${mood}.`;
}

function touch() {
  touched = performance.now();
}

for (const event of ["pointermove", "pointerdown", "wheel", "keydown"]) {
  $("songs").addEventListener(event, touch, { passive: true });
}
addEventListener("scroll", touch, { passive: true });
