// Finds Chromium for the browser tests, or installs it from the distribution.
import { findExecutable, needPackage } from './apt.mjs';

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const ADVICE =
  'The browser tests need Chromium. Install it (Debian: `apt-get install chromium`) or name it in CHROMIUM_PATH.';

/** The path of an executable Chromium; undefined when there is none. */
export function findChromium() {
  return findExecutable([process.env.CHROMIUM_PATH, ...PLACES]);
}

/** As `findChromium`, installing it when that is possible; throws with what to do when it is not. */
export function needChromium() {
  return needPackage('chromium', findChromium, ADVICE);
}
