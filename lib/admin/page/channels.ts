import { empty, h, Keyed, setText } from './dom.js';
import { count, plural, rate } from './format.js';
import type { ChannelState, Model } from './model.js';
import { channelHref, type View } from './view.js';

/** The channels that somebody is subscribed to. */
export function channels(model: Model): View {
  const filter = h('input', {
    attrs: {
      type: 'search',
      placeholder: 'Filter, or a whole name',
      'aria-label': 'Channel',
      autocomplete: 'off',
      autocapitalize: 'off',
      spellcheck: 'false',
    },
  });
  const summary = h('p', { class: 'summary', attrs: { role: 'status' } }, 'Loading…');
  const body = h('tbody');
  const nothing = empty('');
  const rows = new Keyed<ChannelState>(body, ({ name }) => name, channelRow);

  function show(): void {
    if (model.hello === undefined) return;
    const { total, listed } = model.channels;
    const needle = filter.value.trim().toLowerCase();
    const found = listed.filter(({ name }) => name.toLowerCase().includes(needle));
    rows.show(found);
    nothing.hidden = found.length > 0;
    setText(
      nothing,
      listed.length === 0 ? 'Nobody is subscribed to a channel.' : 'None of these. Press Enter to look the name up.',
    );
    const all = plural(listed.length, 'channel');
    const shown = needle === '' ? all : `${count(found.length)} of ${all}`;
    setText(summary, total > listed.length ? `${shown}, those with the most subscribers of each node` : shown);
  }

  filter.addEventListener('input', show);
  const submit = (event: Event): void => {
    event.preventDefault();
    const name = filter.value.trim();
    if (name !== '') location.hash = channelHref(name);
  };
  const open = h('button', { class: 'quiet', attrs: { type: 'submit' } }, 'Open');
  const form = h('form', { class: 'filters', attrs: { role: 'search' }, on: { submit } }, filter, open);
  const head = ['Channel', 'Pattern', 'Subscribers', 'Nodes', 'Publications / s'];
  return {
    element: h(
      'div',
      'list',
      h('div', 'title', h('h1', {}, 'Channels'), summary),
      form,
      h(
        'div',
        'panel table',
        h(
          'table',
          { attrs: { 'data-columns': 'channels' } },
          h('thead', {}, h('tr', {}, ...head.map((name) => h('th', { attrs: { scope: 'col' } }, name)))),
          body,
        ),
        nothing,
      ),
    ),
    show,
  };
}

function channelRow({ name, pattern }: ChannelState): { element: HTMLElement; update: (state: ChannelState) => void } {
  const subscribers = h('td', { class: 'number', attrs: { 'data-label': 'Subscribers' } });
  const nodes = h('td', { class: 'number', attrs: { 'data-label': 'Nodes' } });
  const pace = h('td', { class: 'number', attrs: { 'data-label': 'Publications / s' } });
  return {
    element: h(
      'tr',
      {},
      h('td', { class: 'main' }, h('a', { attrs: { href: channelHref(name) } }, name)),
      h('td', { attrs: { 'data-label': 'Pattern' } }, h('code', {}, pattern)),
      subscribers,
      nodes,
      pace,
    ),
    update(state) {
      setText(subscribers, count(state.subscribers));
      setText(nodes, count(state.nodes));
      setText(pace, state.rate === undefined ? '–' : rate(state.rate));
    },
  };
}
