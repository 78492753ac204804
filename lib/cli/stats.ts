import { below, credentialsOf, pause, urlOf, type Command } from './command.js';

/** A sample of a page of metrics in the text format of Prometheus. */
interface Sample {
  readonly name: string;
  readonly labels: string;
  readonly value: number;
}

/** A page of a node. */
interface Page {
  readonly samples: readonly Sample[];
  /** Who made it, and when, ms by that node's clock; `undefined` where the page does not say. */
  readonly node: string | undefined;
  readonly at: number | undefined;
}

const LINE = /^(realtime_[a-z_]+)(?:\{(.*)\})? (\S+)$/;
/** What is shown per second of the time between two pages. */
const RATE = /_(?:total|count|sum)$/;
const MAX_PAGE_BYTES = 16 * 1024 * 1024;
/** How often the same node is asked for, of those behind a balancer. */
const MAX_ASKED = 100;
const ASK_AGAIN_MS = 50;

/** `stats`: the numbers of a node, as it serves them at `{path}/metrics`. */
export const stats: Command = {
  name: 'stats',
  parameters: [],
  what: 'Shows the numbers of the node that answers: what is, and what happens per second.\nThe hub has to serve {path}/metrics (see docs/operations.md). Of several nodes, the one that answered first is asked for until it answers again.',
  options: {
    seconds: { type: 'string', value: 'N', what: 'the time over which rates are taken', initial: '5' },
    once: { type: 'boolean', what: 'the totals as they are, at once' },
    json: { type: 'boolean', what: 'as JSON' },
  },
  async run(args, { out, note, signal }) {
    const seconds = args.number('seconds', 1);
    const url = below(urlOf(args), 'metrics');
    // A connection for each page, so that what balances connections chooses anew.
    const headers = { ...credentialsOf(args), Connection: 'close' };
    const read = async (): Promise<Page | string> => {
      const response = await fetch(url, { headers, signal: AbortSignal.any([signal, AbortSignal.timeout(15_000)]) });
      const text = await response.text();
      if (response.ok && text.length <= MAX_PAGE_BYTES) return pageOf(response.headers, text);
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
      show(before.samples, args.flag('json'), out);
      return 0;
    }
    const { node, at } = before;
    if (node === undefined || at === undefined) {
      note(
        `${url.href} does not say of which node and time its page is, so there are no rates: --once shows the totals`,
      );
      return 1;
    }
    await pause(seconds * 1_000, signal);
    const others = new Set<string | undefined>();
    for (let asked = 0; asked < MAX_ASKED && !signal.aborted; asked++) {
      if (asked > 0) await pause(ASK_AGAIN_MS, signal);
      const after = await read();
      if (typeof after === 'string') {
        note(after);
        return 1;
      }
      if (after.node !== node) others.add(after.node);
      else if (after.at !== undefined && after.at > at) {
        show(ratesOf(before.samples, after.samples, (after.at - at) / 1_000), args.flag('json'), out);
        return 0;
      }
    }
    const who = others.size === 0 ? 'it gave the same page' : `${others.size} other nodes answered`;
    note(`node ${node} gave no second page in ${MAX_ASKED} requests (${who}), so there are no rates: name it by --url`);
    return 1;
  },
};

function pageOf(headers: Headers, text: string): Page {
  const at = Number(headers.get('realtime-page-time') ?? NaN);
  return {
    samples: samplesOf(text),
    node: headers.get('realtime-node') ?? undefined,
    at: Number.isFinite(at) ? at : undefined,
  };
}

/**
 * What grows per second of the time between two pages of a node, and the mean of what was measured meanwhile; all else as it
 * is on the second.
 */
function ratesOf(before: readonly Sample[], after: readonly Sample[], seconds: number): Sample[] {
  const base = new Map(before.map(({ name, labels, value }) => [name + labels, value]));
  const grown = new Map(
    after.map(({ name, labels, value }) => [name + labels, value - (base.get(name + labels) ?? 0)]),
  );
  return after.map(({ name, labels, value }) => {
    if (!RATE.test(name)) return { name, labels, value };
    const growth = grown.get(name + labels)!;
    if (!name.endsWith('_sum'))
      return { name: `${name.replace(/_total$/, '')} per second`, labels, value: growth / seconds };
    const measured = name.slice(0, -'_sum'.length);
    return { name: `${measured} mean`, labels, value: growth / grown.get(`${measured}_count${labels}`)! };
  });
}

function samplesOf(page: string): Sample[] {
  return page.split('\n').flatMap((line) => {
    const [, name, labels = '', value] = LINE.exec(line) ?? [];
    return name === undefined || name.endsWith('_bucket') ? [] : [{ name, labels, value: Number(value) }];
  });
}

/** What has not happened, or was not measured, is left out of what people read. */
function show(samples: readonly Sample[], asJson: boolean, out: (line: string) => void): void {
  if (asJson) {
    out(JSON.stringify(samples));
    return;
  }
  const shown = samples.filter(({ name, value }) => {
    return !Number.isNaN(value) && (value !== 0 || !(RATE.test(name) || name.endsWith(' per second')));
  });
  const titles = shown.map(
    ({ name, labels }) => `${name.replace(/^realtime_/, '')}${labels === '' ? '' : ` ${labels}`}`,
  );
  const width = Math.max(0, ...titles.map(({ length }) => length));
  shown.forEach(({ value }, i) => {
    const digits = Number.isInteger(value) ? 0 : value < 1 ? 6 : 2;
    out(`${titles[i]!.padEnd(width)}  ${value.toFixed(digits)}`);
  });
}
