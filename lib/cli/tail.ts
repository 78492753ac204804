import { TRANSPORT, UsageError } from './arguments.js';
import { makeClient, reaching, type Command } from './command.js';

/** `tail`: what is published to a channel, as it comes. */
export const tail: Command = {
  name: 'tail',
  parameters: ['CHANNEL'],
  endless: true,
  what: 'Shows what is published to a channel, one JSON object a line, until it is interrupted.\nWhat was missed after a reconnect is told on standard error.',
  options: {
    ...TRANSPORT,
    last: { type: 'string', value: 'N', what: 'begin with the newest N publications of the history', initial: '0' },
    count: { type: 'string', value: 'N', what: 'end after N publications' },
  },
  async run(args, { out, note, signal }) {
    const last = args.count('last', 0);
    const count = args.text('count') === undefined ? Infinity : args.count('count', 1);
    const name = args.positionals[0]!;
    if (last > 1_000) throw new UsageError('--last is at most 1000');
    const client = makeClient(args);
    const channel = client.channel(name);
    let shown = 0;
    let live = false;
    let refusal: Error | undefined;
    let ended: (code: number) => void = () => undefined;
    const end = new Promise<number>((resolve) => (ended = resolve));
    const show = (publication: { event: string; data: unknown; position: string }): void => {
      if (shown >= count) return;
      const { event, data, position } = publication;
      out(JSON.stringify({ event, data, position }));
      if (++shown >= count) ended(0);
    };
    signal.addEventListener('abort', () => ended(0));
    client.on('error', (error) => note(`error: ${error.message}`));
    client.on('state', (state, { reason = '' }) => {
      if (state === 'waiting') note(`disconnected${reason === '' ? '' : ` (${reason})`}: coming back`);
      if (state === 'closed') ended(1);
    });
    channel.on('lost', ({ since, position, reason }) => note(`lost: from ${since} to ${position} (${reason})`));
    channel.on('recovered', ({ count: missed }) => note(`recovered: ${missed} publications`));
    channel.on('error', (error) => {
      if (live) note(`${error.code}: ${error.message}`);
      else refusal = error;
      ended(1);
    });
    // What comes while the history is asked for stands after it.
    let held: Parameters<typeof show>[0][] | undefined = [];
    channel.on('*', (_data, publication) => {
      if (held === undefined) show(publication);
      else held.push(publication);
    });
    try {
      const subscribed = reaching(client, channel.subscribe());
      const { position } = await Promise.race([subscribed, end.then(() => ({ position: undefined }))]);
      if (refusal !== undefined) throw refusal;
      if (position === undefined) return await end;
      live = true;
      note(`${name} from ${position}, over ${client.transport}`);
      if (last > 0) {
        const { publications } = await channel.history({ limit: last });
        const known = new Set(held.map((publication) => publication.position));
        for (const publication of publications) if (!known.has(publication.position)) show(publication);
      }
      for (const publication of held) show(publication);
      held = undefined;
      return await end;
    } finally {
      client.close();
    }
  },
};
