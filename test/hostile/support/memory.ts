import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** What is in use after a collection: the heap, and the bytes of buffers outside of it. */
export async function usedBytes(): Promise<number> {
  // Callbacks of what was freed free more: a turn of the event loop between two collections.
  for (let i = 0; i < 3; i++) {
    collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

export const MIB = 1024 * 1024;
