import { TRANSPORT } from './arguments.js';
import { jsonOrText, makeClient, reaching, type Command } from './command.js';

/** `publish`: one publication. */
export const publish: Command = {
  name: 'publish',
  parameters: ['CHANNEL', 'EVENT', '[DATA]'],
  what: 'Publishes an event to a channel, as a peer does: the channel has to let peers publish.\nDATA is JSON; what is none is text. Prints the position.',
  options: {
    ...TRANSPORT,
    key: { type: 'string', value: 'KEY', what: 'publishing twice with one key makes one publication' },
  },
  async run(args, { out, signal }) {
    const [name, event, data = 'null'] = args.positionals;
    const key = args.text('key');
    const client = makeClient(args);
    signal.addEventListener('abort', () => client.close());
    try {
      const options = { timeoutMs: 15_000, ...(key === undefined ? {} : { key }) };
      const position = await reaching(client, client.channel(name!).publish(event!, jsonOrText(data), options));
      out(position ?? 'nothing was published: the hook of the channel decided so');
      return 0;
    } finally {
      client.close();
    }
  },
};
