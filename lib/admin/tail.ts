import type { Hub } from '../hub/hub.js';
import { isRealtimeException } from '../protocol/errors.js';
import type { EventStream } from './event-stream.js';
import { publicationLine } from './queries.js';

/** How many publications of a second are shown. */
export const TAILED_PER_SECOND = 50;

/** Shows a channel's publications as they come; of many in a second the first, and how many more there were. */
export function tail(hub: Hub, channel: string, open: (ended: () => void) => EventStream): EventStream {
  let left = TAILED_PER_SECOND;
  let skipped = 0;
  let stop: () => void = () => undefined;
  const stream = open(() => {
    beat();
    stop();
  });
  const beat = hub.settings.clock.every(1_000, () => {
    if (skipped > 0) stream.send('skipped', JSON.stringify({ count: skipped }));
    else stream.beat();
    left = TAILED_PER_SECOND;
    skipped = 0;
  });
  stop = hub.read(channel, undefined, {
    started: ({ position }) => stream.send('started', JSON.stringify({ position })),
    publications: ({ items }) => {
      for (const item of items) {
        if (left-- > 0) stream.send('publication', JSON.stringify(publicationLine(item)));
        else skipped++;
      }
    },
    lost: ({ reason }) => stream.send('lost', JSON.stringify({ reason })),
    ended: (error) => {
      if (error !== undefined) {
        stream.send('failed', JSON.stringify({ code: isRealtimeException(error) ? error.code : 'internal' }));
      }
      stream.end();
    },
  });
  return stream;
}
