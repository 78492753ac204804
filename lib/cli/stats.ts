import { below, credentialsOf, urlOf, type Command } from './command.js';

/** A sample of a page of metrics in the text format of Prometheus. */
interface Sample {
  readonly name: string;
  readonly labels: string;
  readonly value: number;
}

const LINE = /^(realtime_[a-z_]+)(?:\{(.*)\})? (\S+)$/;
/** What is shown per second of the time between two pages. */
const RATE = /_(?:total|count|sum)$/;
const MAX_PAGE_BYTES = 16 * 1024 * 1024;

/** `stats`: the numbers of a node, as it serves them at `{path}/metrics`. */
export const stats: Command = {
  name: 'stats',
  parameters: [],
  what: 'Shows the numbers of the node that answers: what is, and what happens per second.\nThe hub has to serve {path}/metrics (see docs/operations.md).',
  options: {
    seconds: { type: 'string', value: 'N', what: 'the time over which rates are taken', initial: '5' },
    once: { type: 'boolean', what: 'the totals as they are, at once' },
    json: { type: 'boolean', what: 'as JSON' },
  },
  async run(args, { out, note, signal }) {
    const seconds = args.number('seconds', 1);
    const url = below(urlOf(args), 'metrics');
    const headers = credentialsOf(args);
    const read = async (): Promise<Sample[] | string> => {
      const response = await fetch(url, { headers, signal: AbortSignal.any([signal, AbortSignal.timeout(15_000)]) });
      const text = await response.text();
      if (response.ok && text.length <= MAX_PAGE_BYTES) return samplesOf(text);
      return response.status === 404
        ? `${url.href} is not there: does the module have "metrics"?`
        : `${url.href} answers ${response.status}`;
    };
    const before = await read();
    if (typeof before === 'string') {
      note(before);
      return 1;
    }
    if (args.flag('once')) {
      show(before, args.flag('json'), out);
      return 0;
    }
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, seconds * 1_000);
      signal.addEventListener('abort', () => {
        clearTimeout(timer);
        resolve();
      });
    });
    if (signal.aborted) return 0;
    const after = await read();
    if (typeof after === 'string') {
      note(after);
      return 1;
    }
    const base = new Map(before.map(({ name, labels, value }) => [name + labels, value]));
    const rates = after.map(({ name, labels, value }) => {
      if (!RATE.test(name)) return { name, labels, value };
      const perSecond = (value - (base.get(name + labels) ?? 0)) / seconds;
      return {
        name: `${name.replace(RATE, '')}${name.endsWith('_sum') ? '_sum' : ''} per second`,
        labels,
        value: perSecond,
      };
    });
    show(rates, args.flag('json'), out);
    return 0;
  },
};

function samplesOf(page: string): Sample[] {
  return page.split('\n').flatMap((line) => {
    const [, name, labels = '', value] = LINE.exec(line) ?? [];
    return name === undefined || name.endsWith('_bucket') ? [] : [{ name, labels, value: Number(value) }];
  });
}

/** Zeros are left out of what people read. */
function show(samples: readonly Sample[], asJson: boolean, out: (line: string) => void): void {
  if (asJson) {
    out(JSON.stringify(samples));
    return;
  }
  const shown = samples.filter(({ value }) => value !== 0 && !Number.isNaN(value));
  const titles = shown.map(
    ({ name, labels }) => `${name.replace(/^realtime_/, '')}${labels === '' ? '' : ` ${labels}`}`,
  );
  const width = Math.max(0, ...titles.map(({ length }) => length));
  shown.forEach(({ value }, i) => {
    const digits = Number.isInteger(value) ? 0 : value < 1 ? 6 : 2;
    out(`${titles[i]!.padEnd(width)}  ${value.toFixed(digits)}`);
  });
}
