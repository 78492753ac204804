import type { ChannelDetails, PublicationLine } from '../snapshot.js';
import { empty, h, panel, setState, setText } from './dom.js';
import { bytes, count, duration, plural, rate, shortId } from './format.js';
import type { Model } from './model.js';
import { Reader } from './reader.js';
import { connectionsHref, type View } from './view.js';
import { act, ask, openTail, type Refused } from './wire.js';

/** How many publications of the tail stay. */
const TAIL_LINES = 200;

/** One channel over all nodes. */
export function channel(model: Model, name: string): View {
  const problem = empty('Loading…');
  const facts = h('div', 'tiles');
  const content = h('div', 'channel');
  const members = h('div');
  const tail = new Tail(name);
  const history = new History(name);
  const tiles = new Map(
    ['Subscribers', 'Publications / s', 'Members', 'History'].map((label) => {
      const value = h('b', {}, '–');
      const note = h('span', 'note');
      facts.append(h('div', 'tile', h('span', 'label', label), value, note));
      return [label, { value, note }] as const;
    }),
  );
  const set = (label: string, value: string, note: string): void => {
    setText(tiles.get(label)!.value, value);
    setText(tiles.get(label)!.note, note);
  };
  let details: ChannelDetails | undefined;
  content.hidden = true;

  const reader = new Reader<ChannelDetails>(model, {
    ask: () => ask('channel', { name }),
    show: (found) => {
      details = found;
      problem.hidden = true;
      content.hidden = false;
      show();
    },
    told: (message, code) => {
      problem.hidden = false;
      setText(problem, code === 'unknown_channel' ? 'No pattern is declared for a channel of this name.' : message);
    },
  });

  function show(): void {
    if (details === undefined) return;
    const { subscribers, history: kept, position, members: there } = details;
    const kinds = Object.entries(subscribers.byTransport).map(([kind, amount]) => `${count(amount)} ${kind}`);
    const nodes = plural(Object.keys(subscribers.byNode).length, 'node');
    set('Subscribers', count(subscribers.total), subscribers.total === 0 ? '' : `${kinds.join(' · ')} on ${nodes}`);
    const pace = model.rateOf(name);
    set('Publications / s', pace === undefined ? '–' : rate(pace), `at ${position}`);
    set('Members', there === undefined ? '–' : count(there.count), there === undefined ? 'no presence' : 'by user');
    set('History', kept.size === 0 ? 'none' : count(kept.size), kept.size === 0 ? '' : `for ${duration(kept.ttlMs)}`);
    showMembers(members, there);
  }

  content.append(
    facts,
    h('div', 'columns two', tail.element, history.element),
    members,
    ...(model.hello?.readOnly === false ? [publishing(name, () => reader.load())] : []),
  );
  return {
    element: h(
      'div',
      'list',
      h('p', 'back', h('a', { attrs: { href: '#/channels' } }, '← Channels')),
      h('div', 'title', h('h1', 'name', name)),
      problem,
      content,
    ),
    show() {
      show();
      reader.check();
    },
    leave() {
      reader.stop();
      tail.stop();
    },
  };
}

function showMembers(parent: HTMLElement, members: ChannelDetails['members']): void {
  const shown = JSON.stringify(members ?? null);
  if (parent.dataset.shown === shown) return;
  parent.dataset.shown = shown;
  if (members === undefined) return;
  const chips = members.ids.map((id) => h('a', { class: 'chip', attrs: { href: connectionsHref(id) } }, shortName(id)));
  const more = members.count - members.ids.length;
  parent.replaceChildren(
    panel(
      'Members',
      members.count === 0 ? empty('Nobody is here.') : h('div', 'chips', ...chips),
      more > 0 ? h('p', 'foot', `and ${count(more)} more`) : undefined,
    ),
  );
}

/** What an anonymous peer is called is an id. */
function shortName(id: string): string {
  return /^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(id) ? shortId(id) : id;
}

function publicationRow({ offset, event, data, length }: PublicationLine): HTMLElement {
  const cut = length > data.length ? ` … ${bytes(length)} in all` : '';
  return h('li', {}, h('span', 'meta', h('b', {}, event), h('span', {}, `#${offset}`)), h('pre', {}, `${data}${cut}`));
}

class Tail {
  readonly element: HTMLElement;
  readonly #list = h('ol', { class: 'publications', attrs: { 'aria-label': 'Publications', tabindex: '0' } });
  readonly #hint = empty('Shows what is published from now on, data included.');
  readonly #button = h('button', { class: 'quiet', attrs: { type: 'button', 'aria-pressed': 'false' } }, 'Start');
  readonly #state = h('span', { class: 'pill', attrs: { role: 'status' } }, h('i'), h('span', {}, 'off'));
  #close: (() => void) | undefined;

  constructor(private readonly channel: string) {
    this.#button.addEventListener('click', () => (this.#close === undefined ? this.#start() : this.stop()));
    this.element = panel('Live', h('div', 'tools', this.#state, this.#button), this.#hint, this.#list);
    this.#tell('off');
  }

  stop(): void {
    this.#close?.();
    this.#close = undefined;
    this.#button.setAttribute('aria-pressed', 'false');
    setText(this.#button, 'Start');
    this.#tell('off');
  }

  #start(): void {
    this.#button.setAttribute('aria-pressed', 'true');
    setText(this.#button, 'Stop');
    this.#tell('connecting');
    const events = {
      started: () => {
        this.#tell('live');
        setText(this.#hint, 'Nothing was published since.');
      },
      publication: (line: unknown) => this.#add(publicationRow(line as PublicationLine)),
      skipped: (told: unknown) => this.#note(`${count((told as { count: number }).count)} more in this second`),
      lost: (told: unknown) => this.#note(`publications were lost: ${(told as { reason: string }).reason}`),
      failed: (told: unknown) => {
        this.stop();
        this.#note(`ended: ${(told as { code: string }).code}`);
      },
    };
    this.#close = openTail(this.channel, events, (closed) => {
      if (closed) this.stop();
      else this.#tell('away');
    });
  }

  #add(row: HTMLElement): void {
    this.#hint.hidden = true;
    this.#list.prepend(row);
    while (this.#list.children.length > TAIL_LINES) this.#list.lastElementChild!.remove();
  }

  #note(text: string): void {
    this.#add(h('li', 'note', text));
  }

  #tell(state: 'off' | 'connecting' | 'live' | 'away'): void {
    setState(this.#state, state);
    setText(this.#state.lastElementChild!, state === 'away' ? 'reconnecting' : state);
  }
}

class History {
  readonly element: HTMLElement;
  readonly #list = h('ol', { class: 'publications', attrs: { 'aria-label': 'History', tabindex: '0' } });
  readonly #hint = empty('Shows what the channel keeps, data included, the newest first.');
  readonly #button = h('button', { class: 'quiet', attrs: { type: 'button' } }, 'Show');

  constructor(private readonly channel: string) {
    this.#button.addEventListener('click', () => void this.#load());
    this.element = panel('History', h('div', 'tools', this.#button), this.#hint, this.#list);
  }

  async #load(): Promise<void> {
    this.#button.disabled = true;
    try {
      const { publications = [] } = await ask<ChannelDetails>('channel', { name: this.channel, history: '1' });
      this.#list.replaceChildren(...publications.map(publicationRow));
      this.#hint.hidden = publications.length > 0;
      setText(this.#hint, 'It keeps nothing.');
      setText(this.#button, 'Refresh');
    } catch (error) {
      this.#hint.hidden = false;
      setText(this.#hint, (error as Refused).message);
    } finally {
      this.#button.disabled = false;
    }
  }
}

function publishing(name: string, published: () => void): HTMLElement {
  const event = h('input', { attrs: { required: '', maxlength: '128', autocomplete: 'off', autocapitalize: 'off' } });
  const data = h('textarea', { attrs: { rows: '3', spellcheck: 'false' } });
  data.value = '{}';
  const button = h('button', { class: 'primary', attrs: { type: 'submit' } }, 'Publish');
  const result = h('p', { class: 'result', attrs: { role: 'status' } });
  const submit = async (): Promise<void> => {
    let value: unknown;
    try {
      value = JSON.parse(data.value);
    } catch {
      setText(result, 'The data is not JSON.');
      data.focus();
      return;
    }
    button.disabled = true;
    try {
      const { position } = await act<{ position: string }>('publish', {
        channel: name,
        event: event.value,
        data: value,
      });
      setText(result, `Published at ${position}.`);
      published();
    } catch (error) {
      setText(result, (error as Refused).message);
    } finally {
      button.disabled = false;
    }
  };
  const on = {
    submit: (sent: Event) => {
      sent.preventDefault();
      void submit();
    },
  };
  const form = h(
    'form',
    { class: 'publish', on },
    h('label', {}, 'Event', event),
    h('label', {}, 'Data, as JSON', data),
    button,
    result,
  );
  return panel('Publish', form);
}
