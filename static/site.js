// What all modules of a page share: finding a part of it, and asking the site.

const TIMEOUT = 5000; // milliseconds
const SLOW = 30000; // of what may have to look through a long table first

export const $ = (id) => document.getElementById(id);
export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
export const NO_ANSWER = "The site does not answer. This page keeps trying.";

/** What the site said instead of an answer: its sentence, its code, and when to come back (milliseconds). */
export class Refusal extends Error {
  constructor(response, sentence) {
    super(sentence);
    this.code = response.status;
    this.wait = 1000 * (Number(response.headers.get("Retry-After")) || 0);
  }
}

/**
 * A request, and its answer: JSON, or the text of a page where that is asked for. A no of the site's is a Refusal; no
 * answer, or one that is not the site's (a network's login page, say), is any other error.
 */
export async function request(url, { slow = false, ...options } = {}) {
  const response = await fetch(url, { signal: AbortSignal.timeout(slow ? SLOW : TIMEOUT), ...options });
  if (!response.ok) throw new Refusal(response, await sentence(response));
  if (isOf(response, "json")) return response.json();
  if (options.headers?.Accept === "text/html") return response.text();
  throw new Error("no answer of this site's"); // or an empty one, which nobody waits for
}

/** Why the site refuses, in its own words where it has any. */
export async function sentence(response) {
  const told = isOf(response, "json") ? (await response.json()).error : isOf(response, "plain") ? await response.text() : "";
  return (typeof told === "string" && told.trim()) || `The site answers ${response.status}. This page keeps trying.`;
}

function isOf(response, kind) {
  return response.headers.get("Content-Type")?.includes(kind);
}

/** Say it there, unless it stands there: what is written anew is read out anew, and loses what somebody has marked. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Whether a click is meant for this page, and not for another tab or window. */
export const isPlain = ({ ctrlKey, metaKey, shiftKey, altKey }) => !(ctrlKey || metaKey || shiftKey || altKey);

/** What a job has from the browser's memory for this site; null where the browser keeps nothing, and throws. */
export function kept(job) {
  try {
    return job();
  } catch {
    return null;
  }
}

/** Say of one of several, a link or a row, that it is the one in force. */
export function setCurrent(element, current) {
  if (current) element.setAttribute("aria-current", "true");
  else element.removeAttribute("aria-current");
}

let queue = Promise.resolve();

/** One request at a time; with the picture, and songs that may take long, the page holds three connections at most. */
export function inTurn(job) {
  const answer = queue.then(job);
  queue = answer.catch(() => {});
  return answer;
}

/** A count and its noun: 1 song, 2 songs. */
export const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

export const ask = (url, options) => inTurn(() => request(url, options));
