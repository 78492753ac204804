import { channel } from './channel.js';
import { channels } from './channels.js';
import { connections } from './connections.js';
import { closeDialog } from './dialog.js';
import { empty, h, setState, setText } from './dom.js';
import { Model } from './model.js';
import { overview } from './overview.js';
import type { View } from './view.js';
import { Wire, type LinkState } from './wire.js';

/** How often the page is drawn at most, ms. */
const DRAW_MS = 250;

const find = (selector: string): HTMLElement => document.querySelector<HTMLElement>(selector)!;
const main = find('#main');
const link = find('#link');
const notice = find('#notice');
const mode = find('#mode');
const again = h(
  'button',
  { class: 'quiet', attrs: { type: 'button' }, on: { click: () => location.reload() } },
  'Reload',
);

const model = new Model();
let view: View | undefined;
let drawing: ReturnType<typeof setTimeout> | undefined;

const STATES: Readonly<Record<LinkState, readonly [text: string, notice: string]>> = {
  connecting: ['Connecting', ''],
  live: ['Live', ''],
  away: ['Reconnecting', 'The server cannot be reached. What is shown may be old; the page goes on by itself.'],
  refused: ['No access', 'You are not let in any more. Reload the page to sign in again.'],
};

function draw(): void {
  drawing ??= setTimeout(() => {
    drawing = undefined;
    view?.show();
  }, DRAW_MS);
}

function tell(state: LinkState): void {
  if (link.dataset.state === state) return;
  const [text, told] = STATES[state];
  setState(link, state);
  setText(link.lastElementChild!, text);
  setText(notice, told);
  if (state === 'refused') notice.append(' ', again);
  notice.hidden = told === '';
  main.classList.toggle('old', state === 'away' || state === 'refused');
}

function makeView(): View {
  const [path = '', query = ''] = location.hash.slice(1).split('?', 2);
  const [, name = '', rest = ''] = path.split('/', 3);
  document.title = `${name === '' ? 'Overview' : name[0]!.toUpperCase() + name.slice(1)} · Realtime admin`;
  for (const tab of document.querySelectorAll<HTMLElement>('[data-view]')) {
    if (tab.dataset.view === (name === '' ? 'overview' : name)) tab.setAttribute('aria-current', 'page');
    else tab.removeAttribute('aria-current');
  }
  if (name === 'connections') return connections(model, new URLSearchParams(query));
  if (name === 'channels') return rest === '' ? channels(model) : channel(model, decode(rest));
  return overview(model);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function route(): void {
  if (location.hash === '#main') return; // the link past the navigation
  view?.leave?.();
  view = undefined;
  closeDialog();
  if (model.hello === undefined) return;
  view = makeView();
  main.replaceChildren(view.element);
  view.show();
  scrollTo(0, 0);
}

main.replaceChildren(empty('Loading…'));
addEventListener('hashchange', route);
let readOnly: boolean | undefined;
const wire = new Wire(
  model,
  () => {
    const { hello } = model;
    if (hello !== undefined && hello.readOnly !== readOnly) {
      readOnly = hello.readOnly;
      setText(mode, readOnly ? 'read-only' : 'actions on');
      mode.hidden = false;
      route();
    }
    draw();
  },
  tell,
);
wire.open();
setInterval(() => {
  draw(); // ages, and nodes that fall silent
  wire.check();
}, 2_000);
