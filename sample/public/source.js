import { Cable, bindCutButton } from './cable.js';
import { showCounters, showStatus } from './link-card.js';
import { askForNode } from './node.js';

const LINES = 7;
const SHOW_EVERY_MS = 200;

const STREAMS = [
  {
    name: 'Channels',
    url: '/realtime/sse?channels=ticker.NEST,ticker.NODE,ticker.RXJS',
    events: ['price'],
    about: 'GET {path}/sse, several channels',
  },
  {
    name: '@Sse',
    url: '/feed/scores/final',
    events: ['update', 'message'],
    about: 'realtime.events() under Nest’s @Sse',
  },
  { name: '@RealtimeSse', url: '/feed/load', events: ['load'], about: '@RealtimeSse, any observable' },
];

const SIGNALS = ['$open', '$lost', '$skipped', '$disconnect'];

/** The browser's own EventSource, without the client library: what any page or `curl -N` gets. */
export class SourceCard {
  #card = document.querySelector('#source');
  #cable = new Cable();
  #stream = STREAMS[0];
  #source;
  #lastEventId = '';
  #openedInMs;
  /** The node that serves the stream, as far as the stream names its connection. */
  #node;
  #startedAt = 0;
  #counters = { events: 0, recovered: 0, lost: 0, reconnects: 0 };
  #lines = [];
  #awaySince;

  constructor() {
    const choices = STREAMS.map((stream) => {
      const label = document.createElement('label');
      const input = Object.assign(document.createElement('input'), { type: 'radio', name: 'stream' });
      input.checked = stream === this.#stream;
      input.addEventListener('change', () => this.#choose(stream));
      label.append(input, Object.assign(document.createElement('span'), { textContent: stream.name }));
      label.title = stream.about;
      return label;
    });
    this.#card.querySelector('.choices').replaceChildren(...choices);
    bindCutButton(this.#card.querySelector('.cut'), this.#cable, () => this.#cut());
    this.#cable.addEventListener('change', () => this.#cable.isCut || this.#comeBack());
    // A browser has six connections for all HTTP/1.1 streams of a site: a hidden tab gives this one back.
    document.addEventListener('visibilitychange', () => {
      if (document.hidden) this.#close();
      else if (!this.#source && !this.#cable.isCut) this.#open();
    });
    showCounters(this.#card, this.#counters);
    setInterval(() => this.#show(), SHOW_EVERY_MS);
    this.#open();
  }

  /** Begins again, where the browser has given the stream up. */
  restart() {
    this.#close();
    if (!this.#cable.isCut) this.#open();
  }

  #choose(stream) {
    this.#close();
    this.#stream = stream;
    this.#lastEventId = '';
    this.#awaySince = undefined;
    this.#lines = [];
    this.#showVerdict('', '');
    if (!this.#cable.isCut) this.#open();
  }

  #open() {
    // An EventSource that comes back by itself sends Last-Event-ID; one that is made anew tells it in the URL.
    const url = new URL(this.#stream.url, location.href);
    if (this.#lastEventId) url.searchParams.set('lastEventId', this.#lastEventId);
    this.#startedAt = performance.now();
    this.#openedInMs = undefined;
    this.#node = undefined;
    const source = (this.#source = new EventSource(url));
    source.onopen = () => (this.#openedInMs = performance.now() - this.#startedAt);
    source.onerror = () => (this.#startedAt = performance.now());
    for (const name of this.#stream.events) source.addEventListener(name, (event) => this.#publication(event));
    for (const name of SIGNALS) source.addEventListener(name, (event) => this.#signal(event));
  }

  #close() {
    this.#source?.close();
    this.#source = undefined;
  }

  #cut() {
    this.#close();
    this.#awaySince = Date.now();
    this.#showVerdict('away', 'Connection lost. All it has to keep is the last event id.');
  }

  #comeBack() {
    this.#counters.reconnects++;
    this.#open();
  }

  #publication(event) {
    this.#counters.events++;
    this.#record(event);
  }

  #signal(event) {
    this.#record(event);
    const data = JSON.parse(event.data);
    if (event.type === '$lost') this.#counters.lost++;
    if (event.type === '$open') this.#opened(data);
  }

  #opened({ connection, cursor, channels }) {
    void this.#findNode(connection);
    if (this.#awaySince === undefined) return;
    const away = `${((Date.now() - this.#awaySince) / 1000).toFixed(1)} s away`;
    this.#awaySince = undefined;
    const answers = Object.values(channels ?? {});
    const missed = answers.reduce(
      (sum, { position, until }) => sum + offsetOf(until ?? position) - offsetOf(position),
      0,
    );
    this.#counters.recovered += missed;
    const lost = answers.filter(({ recovered }) => recovered === false).length;
    this.#counters.lost += lost;
    showCounters(this.#card, this.#counters);
    if (cursor !== 'used') this.#showVerdict('lost', `${away}: a new stream (${cursor} cursor)`);
    else if (lost > 0) this.#showVerdict('lost', `${away}: ${lost} channels lost publications`);
    else this.#showVerdict('back', `${away}: recovered ${missed} missed publications`);
  }

  async #findNode(connection) {
    const source = this.#source;
    const node = connection && (await askForNode(connection));
    if (this.#source === source) this.#node = node;
  }

  #record(event) {
    if (event.lastEventId) this.#lastEventId = event.lastEventId;
    this.#lines.push([event.type, event.data]);
    this.#lines = this.#lines.slice(-LINES);
  }

  #show() {
    const state = this.#source ? ['connecting', 'open', 'closed'][this.#source.readyState] : 'waiting';
    const facts = [];
    if (state === 'open' && this.#openedInMs !== undefined) facts.push(`opened in ${Math.round(this.#openedInMs)} ms`);
    if (state === 'open' && this.#node) facts.push(`node ${this.#node}`);
    showStatus(this.#card, this.#cable.isCut ? 'waiting' : state, facts);
    showCounters(this.#card, this.#counters);
    const wire = this.#card.querySelector('.wire');
    wire.replaceChildren(
      line('GET', this.#stream.url, 'request'),
      ...this.#lines.map(([event, data]) => line(event, data, event.startsWith('$') ? 'signal' : '')),
      line('id', this.#lastEventId || '–', 'cursor'),
    );
  }

  #showVerdict(kind, text) {
    const verdict = this.#card.querySelector('.verdict');
    verdict.dataset.kind = kind;
    verdict.textContent = text;
  }
}

function line(name, text, kind) {
  const row = document.createElement('span');
  row.className = `row ${kind}`;
  row.append(Object.assign(document.createElement('b'), { textContent: name }), ` ${text}`);
  return row;
}

function offsetOf(position) {
  return Number(position.split('-')[1]);
}
