import type { ConnectionDetails, ConnectionLine, ConnectionPage } from '../snapshot.js';
import { closeDialog, dialogOpen, showDialog } from './dialog.js';
import { empty, h, Keyed, setText } from './dom.js';
import { count, duration, plural, shortId } from './format.js';
import { nameOf, type Model } from './model.js';
import { Reader } from './reader.js';
import { channelHref, type View } from './view.js';
import { act, ask, type Refused } from './wire.js';

/** For how long typing has to pause before it is searched, ms. */
const PAUSE_MS = 250;

/** The connections of all nodes: searched, inspected, ended. */
export function connections(model: Model, query: URLSearchParams): View {
  const search = h('input', {
    attrs: { type: 'search', placeholder: 'User, address or id', 'aria-label': 'Search', autocomplete: 'off' },
  });
  search.value = query.get('text') ?? '';
  const transport = h(
    'select',
    { attrs: { 'aria-label': 'Transport' } },
    h('option', { attrs: { value: '' } }, 'All transports'),
  );
  const node = h('select', { attrs: { 'aria-label': 'Node' } }, h('option', { attrs: { value: '' } }, 'All nodes'));
  const summary = h('p', { class: 'summary', attrs: { role: 'status' } }, 'Loading…');
  const body = h('tbody');
  const nothing = empty('No connection matches.');
  const previous = h('button', { class: 'quiet', attrs: { type: 'button' } }, '← Newer');
  const next = h('button', { class: 'quiet', attrs: { type: 'button' } }, 'Older →');
  const position = h('span');
  const pager = h('div', 'pager', previous, position, next);
  let page = 1;
  let pause: ReturnType<typeof setTimeout> | undefined;

  const rows = new Keyed<ConnectionLine>(
    body,
    ({ id }) => id,
    (line) => connectionRow(line, model, () => void inspect(line.id, model, () => reader.load())),
  );
  nothing.hidden = true;
  pager.hidden = true;

  const reader = new Reader<ConnectionPage>(model, {
    ask: () => {
      const wish = { text: search.value, transport: transport.value, node: node.value, page: String(page) };
      return ask('connections', wish);
    },
    show: (found) => {
      page = found.page;
      rows.show(found.items);
      nothing.hidden = found.matching > 0;
      pager.hidden = found.pages < 2;
      previous.disabled = found.page <= 1;
      next.disabled = found.page >= found.pages;
      setText(position, `Page ${count(found.page)} of ${count(found.pages)}`);
      const all = plural(found.total, 'connection');
      setText(summary, found.matching === found.total ? all : `${count(found.matching)} of ${all}`);
    },
    told: (problem) => setText(summary, problem),
    paused: dialogOpen,
  });

  const anew = (): void => {
    page = 1;
    reader.load();
  };
  search.addEventListener('input', () => {
    clearTimeout(pause);
    pause = setTimeout(anew, PAUSE_MS);
  });
  transport.addEventListener('change', anew);
  node.addEventListener('change', anew);
  previous.addEventListener('click', () => {
    page--;
    reader.load();
  });
  next.addEventListener('click', () => {
    page++;
    reader.load();
  });

  const form = h(
    'form',
    { class: 'filters', attrs: { role: 'search' }, on: { submit: (event) => event.preventDefault() } },
    search,
    transport,
    node,
  );
  const head = ['User', 'Address', 'Transport', 'Node', 'Open for', 'Channels'];
  const element = h(
    'div',
    'list',
    h('div', 'title', h('h1', {}, 'Connections'), summary),
    form,
    h(
      'div',
      'panel table',
      h(
        'table',
        {},
        h('thead', {}, h('tr', {}, ...head.map((name) => h('th', { attrs: { scope: 'col' } }, name)))),
        body,
      ),
      nothing,
      pager,
    ),
  );
  return {
    element,
    show() {
      choices(
        transport,
        model.transports.map(([name]) => [name, name]),
      );
      choices(
        node,
        model.nodes.map(({ report }) => [report.node, nameOf(report)]),
      );
      reader.check();
    },
    leave() {
      reader.stop();
      clearTimeout(pause);
    },
  };
}

/** Adds what can be chosen; what was chosen stays. */
function choices(select: HTMLSelectElement, wanted: readonly (readonly [value: string, text: string])[]): void {
  const known = new Map([...select.options].map((option) => [option.value, option]));
  for (const [value, text] of wanted) {
    if (!known.has(value)) select.append(h('option', { attrs: { value } }, text));
    known.delete(value);
  }
  for (const [value, option] of known) if (value !== '' && !option.selected) option.remove();
}

function connectionRow(
  line: ConnectionLine,
  model: Model,
  open: () => void,
): { element: HTMLElement; update: (line: ConnectionLine) => void } {
  const who = h('button', { class: 'link', attrs: { type: 'button' }, on: { click: open } });
  const place = h('td', { attrs: { 'data-label': 'Node' } });
  const age = h('td', { attrs: { 'data-label': 'Open for' } });
  const channels = h('td', { class: 'number', attrs: { 'data-label': 'Channels' } });
  const element = h(
    'tr',
    {},
    h('td', { class: 'main' }, who),
    h('td', { attrs: { 'data-label': 'Address' } }, line.ip),
    h('td', { attrs: { 'data-label': 'Transport' } }, h('span', 'tag', line.transport)),
    place,
    age,
    channels,
  );
  setText(who, line.userId ?? `anonymous ${shortId(line.id)}`);
  if (line.userId === undefined) who.classList.add('nobody');
  return {
    element,
    update(now) {
      setText(place, model.nameOfNode(now.node) ?? shortId(now.node));
      setText(age, duration(Date.now() - now.openedAt));
      setText(channels, count(now.channels));
    },
  };
}

/** Shows one connection, and lets it be ended where the page may act. */
async function inspect(id: string, model: Model, changed: () => void): Promise<void> {
  const content = showDialog('Connection', h('p', 'empty', 'Loading…'));
  try {
    const info = await ask<ConnectionDetails>('connections', { id });
    const facts: readonly (readonly [string, string])[] = [
      ['User', info.userId ?? 'anonymous'],
      ['Address', info.ip],
      ['Transport', info.transport],
      ['Node', model.nameOfNode(info.node) ?? info.node],
      ['Endpoint', info.endpoint.replace(/^0:/, '')],
      ...Object.entries(info.params).map(([name, value]) => [`:${name}`, value] as const),
      ['Opened', new Date(info.openedAt).toLocaleString()],
      ['Client', info.client ?? '–'],
      ['Id', info.id],
    ];
    const channels = info.channels.map((name) =>
      h('a', { class: 'chip', attrs: { href: channelHref(name) }, on: { click: closeDialog } }, name),
    );
    content.replaceChildren(
      h('dl', 'facts', ...facts.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value)))),
      h('h3', {}, plural(channels.length, 'channel')),
      channels.length === 0 ? empty('It is subscribed to none.') : h('div', 'chips', ...channels),
      ...(model.hello?.readOnly === false ? [ending(info, changed)] : []),
    );
  } catch (error) {
    content.replaceChildren(empty((error as Refused).code === 'gone' ? 'It has ended.' : (error as Refused).message));
  }
}

function ending({ id }: ConnectionDetails, changed: () => void): HTMLElement {
  const back = h('input', { attrs: { type: 'checkbox' } });
  const result = h('p', { class: 'result', attrs: { role: 'status' } });
  const button = h('button', { class: 'danger', attrs: { type: 'submit' } }, 'Disconnect');
  const submit = async (): Promise<void> => {
    button.disabled = true;
    try {
      await act('disconnect', { connection: id, reconnect: back.checked });
      setText(result, back.checked ? 'It was told to come back.' : 'It was disconnected.');
      changed();
    } catch (error) {
      button.disabled = false;
      setText(result, (error as Refused).message);
    }
  };
  const on = {
    submit: (event: Event) => {
      event.preventDefault();
      void submit();
    },
  };
  return h('form', { class: 'ending', on }, h('label', {}, back, 'It may come back'), button, result);
}
