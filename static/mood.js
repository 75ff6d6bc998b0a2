// A mood as the page shows it: in a word, in seven bars, and as a box over a picture.

import { $, write } from "./site.js";

export const named = (emotion) => emotion[0].toUpperCase() + emotion.slice(1);
export const percent = (share) => `${Math.round(100 * share)}%`;

export function showMood(lead, mood, reading = null) {
  write($("lead"), lead);
  write($("mood"), mood);
  write($("confidence"), reading ? certainty(reading) : "");
  $("reading").dataset.mood = reading?.emotion ?? "";
}

/** While another mood leads and waits for its turn, a percentage of this one would only puzzle. */
function certainty({ confidence, probabilities }) {
  return confidence < Math.max(...Object.values(probabilities)) ? "and changing" : `${percent(confidence)} sure`;
}

export function showBars(reading) {
  for (const row of $("bars").children) {
    const share = reading?.probabilities[row.dataset.emotion];
    row.style.setProperty("--share", share ?? 0);
    write(row.querySelector(".share"), share === undefined ? "–" : percent(share));
    row.classList.toggle("leads", reading?.emotion === row.dataset.emotion);
  }
}

/** Put a face's box over its picture: in shares of the picture's size, so that it fits at any. */
export function place(mark, [x, y, width, height], image, mirrored = false) {
  const left = mirrored ? image.width - x - width : x;
  const places = { x: left / image.width, y: y / image.height, w: width / image.width, h: height / image.height };
  for (const [name, share] of Object.entries(places)) mark.style.setProperty(`--${name}`, `${100 * share}%`);
  mark.classList.toggle("high", y < 0.1 * image.height); // no room above it for its label
  mark.classList.toggle("far", left > 0.6 * image.width); // nor, on a phone, to the right
}

/** What the page says of who is in sight. */
export function inWords(reading, faces) {
  if (reading) return { lead: "Looks like", mood: named(reading.emotion) };
  if (faces.length) return { lead: "One moment", mood: "Looking" };
  return { lead: "Nobody in sight", mood: "No face yet" };
}

/** How tall the column beside the songs is: what is taller than the window sticks to its other edge. */
function measure([{ target }]) {
  target.style.setProperty("--tall", `${target.offsetHeight}px`);
}

new ResizeObserver(measure).observe($("watch"));
