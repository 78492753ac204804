// What the limit of frames costs per frame, as CPU time of this process: one that is let through, and one that is refused.
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { root } from '../../scripts/run.mjs';
import { spread } from '../support/statistics.mjs';

/** As a frame comes from a socket: one flat text, not one that was put together. */
const received = (text) => Buffer.from(text).toString();
const TEXT = received(`{"id":7,"event":"echo","data":"${'x'.repeat(64)}"}`);
/** A frame that takes the scanner to its bound, with the id behind all else. */
const LARGE = received(`{"event":"echo","data":${JSON.stringify(Array.from({ length: 680 }, (_, i) => [i]))},"id":7}`);
const FRAMES_PER_SECOND = 100;

export async function limits({ rounds = 15, warmUps = 5, frames = 100_000 } = {}) {
  const file = path.join(root, 'dist/esm/hub/frame-limit.js');
  const { FrameLimit } = await import(pathToFileURL(file).href);
  const systemClock = { now: () => Date.now() };
  const connection = () => ({ bucketFullAt: 0, refusals: undefined, answer: () => {}, fail: () => {} });
  /** Time stands still for refusals, and the count of them starts anew, so that every frame meets the same. */
  const refusing = (text) => {
    const limit = new FrameLimit(FRAMES_PER_SECOND, { now: () => 0 });
    const peer = connection();
    while (limit.takes(peer, text));
    return () => {
      peer.refusals.count = 0;
      return limit.takes(peer, text);
    };
  };
  const letThrough = () => {
    const limit = new FrameLimit(FRAMES_PER_SECOND, systemClock);
    const peer = connection();
    return () => {
      peer.bucketFullAt = 0;
      return limit.takes(peer, TEXT);
    };
  };
  const subjects = [
    { name: 'let through', run: letThrough() },
    { name: `refused, ${TEXT.length} characters`, run: refusing(TEXT) },
    { name: `refused, ${LARGE.length} characters`, run: refusing(LARGE), share: 10 },
    { name: 'for comparison: JSON.parse of the first', run: () => JSON.parse(TEXT) },
  ].map((subject) => ({ ...subject, samples: [] }));
  for (let round = -warmUps; round < rounds; round++) {
    for (const { run, samples, share = 1 } of subjects) {
      const count = frames / share;
      const before = process.cpuUsage();
      for (let i = 0; i < count; i++) run();
      const { user, system } = process.cpuUsage(before);
      if (round >= 0) samples.push(((user + system) * 1000) / count);
    }
  }
  return subjects.map(({ name, samples }) => ({ name, nanosPerFrame: spread(samples), samples }));
}
