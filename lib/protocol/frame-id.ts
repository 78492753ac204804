import { isFrameId, MAX_ID_LENGTH, type FrameId } from './frames.js';

const QUOTE = 34;
const COMMA = 44;
const COLON = 58;
const BACKSLASH = 92;
const OPEN_BRACE = 123;
const CLOSE_BRACE = 125;
const OPEN_BRACKET = 91;
const CLOSE_BRACKET = 93;
/** `id` and an id, in quotes and with an escape of 6 characters for each. */
const LONGEST_KEY = 2 + 6 * 2;
const LONGEST_ID = 2 + 6 * MAX_ID_LENGTH;

/**
 * The `id` of a frame, found without reading what else is in it. Ids within nested values and within text are none; of
 * a repeated one the last counts, as in JSON. What stands behind a place that is no JSON, such as the end of a text that
 * was cut, is not looked at.
 */
export function scanFrameId(text: string): FrameId | undefined {
  let id: FrameId | undefined;
  let at = skipSpace(text, 0);
  if (text.charCodeAt(at) !== OPEN_BRACE) return undefined;
  do {
    const key = skipSpace(text, at + 1);
    const keyEnd = endOfString(text, key);
    const colon = skipSpace(text, keyEnd);
    if (keyEnd === -1 || text.charCodeAt(colon) !== COLON) return id;
    const value = skipSpace(text, colon + 1);
    const valueEnd = endOfValue(text, value);
    if (valueEnd === -1) return id;
    if (isId(text, key, keyEnd)) id = readId(text, value, valueEnd);
    at = skipSpace(text, valueEnd);
  } while (text.charCodeAt(at) === COMMA);
  return id;
}

/** Whether a key is `id`, by whatever escapes it is written. */
function isId(text: string, start: number, end: number): boolean {
  if (end - start === 4) return text.startsWith('"id"', start);
  if (end - start > LONGEST_KEY) return false;
  const key = text.slice(start, end);
  return key.includes('\\') && parse(key) === 'id';
}

function readId(text: string, start: number, end: number): FrameId | undefined {
  const first = text.charCodeAt(start);
  if (end - start > LONGEST_ID || first === OPEN_BRACE || first === OPEN_BRACKET) return undefined;
  const id = parse(text.slice(start, end));
  return isFrameId(id) ? id : undefined;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Behind a value: behind its closing quote, brace or bracket, or where a number or a word ends; -1: there is no end. */
function endOfValue(text: string, start: number): number {
  const first = text.charCodeAt(start);
  if (first === QUOTE) return endOfString(text, start);
  if (first === OPEN_BRACE || first === OPEN_BRACKET) return endOfNested(text, start);
  for (let at = start; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === COMMA || code === CLOSE_BRACE || code <= 32) return at;
  }
  return -1;
}

function endOfNested(text: string, start: number): number {
  let depth = 0;
  for (let at = start; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      at = endOfString(text, at) - 1;
      if (at < 0) return -1;
    } else if (code === OPEN_BRACE || code === OPEN_BRACKET) {
      depth++;
    } else if ((code === CLOSE_BRACE || code === CLOSE_BRACKET) && --depth === 0) {
      return at + 1;
    }
  }
  return -1;
}

/** Behind the closing quote of what has to be text. */
function endOfString(text: string, start: number): number {
  if (text.charCodeAt(start) !== QUOTE) return -1;
  for (let at = text.indexOf('"', start + 1); at !== -1; at = text.indexOf('"', at + 1)) {
    let escapes = 0;
    while (text.charCodeAt(at - escapes - 1) === BACKSLASH) escapes++;
    if (escapes % 2 === 0) return at + 1;
  }
  return -1;
}

function skipSpace(text: string, start: number): number {
  let at = start;
  for (; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code !== 32 && code !== 10 && code !== 13 && code !== 9) break;
  }
  return at;
}
