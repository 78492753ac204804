import { Chart } from './charts.js';
import { empty, h, Keyed, panel, setState, setText } from './dom.js';
import { bytes, count, duration, ms, plural, rate } from './format.js';
import { nameOf, type Model, type NodeState } from './model.js';
import type { View } from './view.js';

/** What is checked, in a few words. */
const CHECKS: Readonly<Record<string, string>> = {
  protocols: 'Peers can send what gateways take',
  broker: 'The broker joins all processes',
  heartbeat: 'Links are not silent for too long',
  history: 'Peers that come back find what they missed',
  authentication: 'Somebody decides who is let in',
  limits: 'Limits are on',
  origins: 'Pages of other sites are kept out',
  admin: 'This page is guarded',
  monitoring: 'A probe asks for the health',
  proxies: 'Proxies in front are trusted',
  shutdown: 'A deployment drains this node',
};

class Tile {
  readonly #value = h('b', {}, '–');
  readonly #note = h('span', 'note');
  readonly element: HTMLElement;

  constructor(label: string) {
    this.element = h('div', 'tile', h('span', 'label', label), this.#value, this.#note);
  }

  show(value: string, note = ''): void {
    setText(this.#value, value);
    setText(this.#note, note);
  }
}

/** All nodes at a glance. */
export function overview(model: Model): View {
  const tiles = {
    connections: new Tile('Connections'),
    nodes: new Tile('Nodes'),
    published: new Tile('Publications / s'),
    delivered: new Tile('Deliveries / s'),
    latency: new Tile('Delivery p99'),
    errors: new Tile('Errors / s'),
  };
  const interval = (): number => model.hello?.intervalMs ?? 2_000;
  const charts = {
    connections: new Chart('Connections', ['open'], count, interval),
    frames: new Chart('Frames / s', ['to peers', 'from peers'], rate, interval),
    channels: new Chart('Channels / s', ['deliveries', 'publications'], rate, interval),
    delivery: new Chart('Delivery latency, slowest node', ['p99', 'p50'], ms, interval),
    fanOut: new Chart('Fan-out latency, slowest node', ['p99', 'p50'], ms, interval),
    trouble: new Chart('Trouble / s', ['errors', 'refused'], rate, interval),
  };
  const nodes = h('div', 'nodes');
  const nodeCards = new Keyed<NodeState>(nodes, ({ report }) => report.node, nodeCard);
  const errors = new Counts('Errors by code', 'No peer was answered an error.');
  const refusals = new Counts('Handshakes refused', 'Nobody was refused.');
  const ends = new Counts('Connections ended', 'No connection has ended.');
  const checks = h('ul', 'checks');
  const checkRows = new Keyed<string>(checks, String, (check) => checkRow(check, model));
  const checkPanel = panel('Checklist', checks);

  const element = h(
    'div',
    'overview',
    h('h1', 'hidden-title', 'Overview'),
    h('div', 'tiles', ...Object.values(tiles).map((tile) => tile.element)),
    h('div', 'charts', ...Object.values(charts).map((chart) => chart.element)),
    panel('Nodes', nodes),
    h('div', 'columns', errors.element, refusals.element, ends.element),
    checkPanel,
  );

  return {
    element,
    show() {
      const { nodes: all, goneNodes } = model;
      const now = (values: readonly (number | undefined)[]): number => values.findLast((v) => v !== undefined) ?? 0;
      const sums = {
        received: model.sums('received'),
        sent: model.sums('sent'),
        published: model.sums('published'),
        delivered: model.sums('delivered'),
        errors: model.sums('errors'),
        refused: model.sums('refused'),
      };
      const delivery = [model.slowest('deliveryMs', 1), model.slowest('deliveryMs', 0)] as const;
      const transports = model.transports;
      const open = transports.reduce((sum, [, amount]) => sum + amount, 0);
      const well = all.filter(({ report, silent }) => !silent && report.health.status === 'up' && report.health.ready);
      tiles.connections.show(count(open), transports.map(([name, amount]) => `${count(amount)} ${name}`).join(' · '));
      const gone = goneNodes.length === 0 ? '' : ` · ${goneNodes.length} gone`;
      const allWell = well.length === all.length && gone === '';
      tiles.nodes.show(count(all.length), allWell ? 'all well' : `${well.length} well${gone}`);
      const { total } = model.channels;
      tiles.published.show(rate(now(sums.published)), `${plural(total, 'channel')} followed`);
      tiles.delivered.show(rate(now(sums.delivered)), bytesWaiting(all));
      const latest = delivery[0].findLast((value) => value !== undefined);
      tiles.latency.show(latest === undefined ? '–' : ms(latest), 'from publish to socket');
      tiles.errors.show(rate(now(sums.errors)), `${rate(now(sums.refused))} refused / s`);

      charts.connections.show([{ name: 'open', values: model.sums('connections') }]);
      charts.frames.show([
        { name: 'to peers', values: sums.sent },
        { name: 'from peers', values: sums.received },
      ]);
      charts.channels.show([
        { name: 'deliveries', values: sums.delivered },
        { name: 'publications', values: sums.published },
      ]);
      charts.delivery.show([
        { name: 'p99', values: delivery[0] },
        { name: 'p50', values: delivery[1] },
      ]);
      charts.fanOut.show([
        { name: 'p99', values: model.slowest('fanOutMs', 1) },
        { name: 'p50', values: model.slowest('fanOutMs', 0) },
      ]);
      charts.trouble.show([
        { name: 'errors', values: sums.errors },
        { name: 'refused', values: sums.refused },
      ]);
      nodeCards.show([...all, ...goneNodes]);
      errors.show(model.counted('errors'));
      refusals.show(model.counted('refused'));
      ends.show(model.counted('closed'));
      const { findings } = model;
      const known = model.hello?.checks ?? [];
      checkRows.show([...known].sort((a, b) => Number(findings.has(b)) - Number(findings.has(a))));
    },
  };
}

function bytesWaiting(nodes: readonly NodeState[]): string {
  const waiting = nodes.reduce((sum, { report }) => sum + report.outboxBytes, 0);
  return waiting === 0 ? 'nothing waits' : `${bytes(waiting)} wait`;
}

function nodeCard(): { element: HTMLElement; update: (state: NodeState) => void } {
  const title = h('b');
  const id = h('code');
  const status = h('span', { class: 'pill' }, h('i'), h('span'));
  const why = h('p', 'why');
  const facts = new Map(
    ['Connections', 'Broker', 'Event loop', 'Memory', 'Uptime', 'Version'].map((name) => [name, h('dd')]),
  );
  const list = h('dl', {}, ...[...facts].map(([name, dd]) => h('div', {}, h('dt', {}, name), dd)));
  const element = h('article', 'node', h('header', {}, h('div', 'name', title, id), status), why, list);
  const set = (name: string, text: string): void => setText(facts.get(name)!, text);
  return {
    element,
    update({ report, silent, gone }) {
      const { health } = report;
      setText(title, nameOf(report));
      setText(id, report.node.slice(0, 8));
      id.title = report.node;
      const draining = health.status !== 'down' && !health.ready;
      const state = silent ? 'silent' : gone ? 'gone' : draining ? 'draining' : health.status;
      setState(status, state);
      setText(status.lastElementChild!, gone ? 'gone' : state);
      setText(why, gone ? farewellOf(gone) : reasonsOf(health.reasons, silent));
      why.hidden = why.textContent === '';
      list.hidden = gone !== undefined;
      const open = Object.entries(report.connections);
      const total = open.reduce((sum, [, amount]) => sum + amount, 0);
      const kinds = open.map(([name, amount]) => `${count(amount)} ${name}`).join(', ');
      set('Connections', kinds === '' ? '0' : `${count(total)} (${kinds})`);
      set('Broker', `${health.broker.name}, ${health.broker.available ? 'available' : 'away'}`);
      set('Event loop', `${ms(health.eventLoopLagMs)} late`);
      set('Memory', bytes(report.memoryBytes));
      set('Uptime', duration(report.uptimeMs));
      set('Version', `${report.version}, Node ${report.runtime.replace(/^v/, '')}`);
    },
  };
}

function farewellOf({ left, agoMs }: { left: boolean; agoMs: number }): string {
  return left ? `It left ${duration(agoMs)} ago.` : `It has said nothing for ${duration(agoMs)}.`;
}

function reasonsOf(reasons: readonly string[], silent: boolean): string {
  if (silent) return 'It has said nothing for some seconds.';
  const told: Readonly<Record<string, string>> = {
    broker: 'The broker is away: peers stay, publications wait or are refused.',
    event_loop: 'Something keeps the process from its work for more than a second.',
  };
  return reasons.map((reason) => told[reason] ?? reason).join(' ');
}

class Counts {
  readonly element: HTMLElement;
  readonly #list = h('ul', 'counts');
  readonly #empty: HTMLElement;
  readonly #foot = h('p', 'foot', 'Since the nodes started');
  readonly #rows: Keyed<[string, number]>;
  #most = 1;

  constructor(title: string, nothing: string) {
    this.#empty = empty(nothing);
    this.element = panel(title, this.#empty, this.#list, this.#foot);
    this.#rows = new Keyed<[string, number]>(
      this.#list,
      ([label]) => label,
      ([label]) => {
        const amount = h('b');
        const bar = h('i', 'fill');
        return {
          element: h('li', {}, h('code', {}, label), amount, h('span', 'track', bar)),
          update: ([, value]) => {
            setText(amount, count(value));
            bar.style.width = `${(value / this.#most) * 100}%`;
          },
        };
      },
    );
  }

  show(counts: [string, number][]): void {
    this.#most = counts[0]?.[1] ?? 1;
    this.#empty.hidden = counts.length > 0;
    this.#foot.hidden = counts.length === 0;
    this.#rows.show(counts.slice(0, 12));
  }
}

function checkRow(check: string, model: Model): { element: HTMLElement; update: () => void } {
  const mark = h('i', { class: 'mark', attrs: { 'aria-hidden': 'true' } });
  const verdict = h('span', 'verdict');
  const text = h('div', 'findings');
  const element = h('li', {}, mark, h('div', {}, h('p', 'what', h('b', {}, CHECKS[check] ?? check), verdict), text));
  let shown = '';
  return {
    element,
    update() {
      const found = model.findings.get(check) ?? [];
      const state = JSON.stringify(found);
      if (state === shown) return;
      shown = state;
      setState(element, found.length === 0 ? 'good' : 'short');
      setText(verdict, found.length === 0 ? 'well' : 'falls short');
      text.replaceChildren(
        ...found.flatMap(({ finding, nodes }) => [
          h('p', {}, `${finding.message}.`),
          h('p', 'fix', `${finding.fix}.`),
          h('p', 'foot', `On ${nodes.length > 3 ? plural(nodes.length, 'node') : nodes.join(', ')}`),
        ]),
      );
    },
  };
}
