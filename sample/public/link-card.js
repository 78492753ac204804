import { Cable, bindCutButton } from './cable.js';
import { Lane, follow } from './lane.js';
import { askForNode } from './node.js';

/** What the page shows of one client of the hub: its link, its channels' positions, and what an outage cost. */
export class LinkCard {
  cable = new Cable();
  #card;
  #client;
  #leave = [];
  #lanes = new Map();
  #counters = { recovered: 0, lost: 0, skipped: 0, reconnects: 0 };
  #connection = '';
  /** The node that serves the connection. */
  #node;
  #nextAttemptAt;
  /** Since when there is no link, after there was one. */
  #awaySince;
  #wasOpen = false;
  #outage;

  constructor(id, title) {
    const card = document.querySelector('#link-card').content.firstElementChild.cloneNode(true);
    card.id = id;
    card.querySelector('h3').textContent = title;
    card.querySelector('h3').id = `${id}-title`;
    card.setAttribute('aria-labelledby', `${id}-title`);
    document.querySelector('#link-cards').insertBefore(card, document.querySelector('#source'));
    this.#card = card;
    bindCutButton(card.querySelector('.cut'), this.cable, () => this.#client?.reconnect());
    this.#showCounters();
    setInterval(() => this.#showStatus(), 250);
  }

  /** Shows a client; an earlier one is forgotten. */
  attach(client, names) {
    for (const leave of this.#leave.splice(0)) leave();
    this.#lanes.clear();
    this.#client = client;
    this.#connection = '';
    this.#awaySince = undefined;
    this.#wasOpen = false;
    this.#outage = undefined;
    const rows = names.map((name) => this.#row(client.channel(name)));
    this.#card.querySelector('tbody').replaceChildren(...rows);
    this.#card.querySelector('.lanes').classList.toggle('few', names.length <= 2);
    this.#leave.push(
      client.on('state', (state, details) => this.#stateChanged(state, details)),
      client.on('connected', async ({ connection }) => {
        this.#connection = connection;
        this.#node = undefined;
        const node = await askForNode(connection);
        if (this.#connection === connection) this.#node = node;
      }),
    );
    this.#showStatus();
  }

  #row(channel) {
    const row = document.createElement('tr');
    row.dataset.channel = channel.name;
    row.innerHTML =
      '<th scope="row"></th><td><canvas aria-hidden="true"></canvas></td>' +
      '<td class="position"><span></span><b>–</b><span></span></td>';
    row.querySelector('th').textContent = channel.name;
    const [epoch, tag] = row.querySelectorAll('.position span');
    const offset = row.querySelector('.position b');
    const lane = new Lane(row.querySelector('canvas'));
    this.#lanes.set(channel.name, lane);

    let shown;
    const showPosition = () => {
      const position = channel.position;
      if (position === shown || position === undefined) return;
      shown = position;
      const parts = position.split('-');
      epoch.textContent = `${parts[0]}-`;
      offset.textContent = parts[1];
      tag.textContent = `-${parts[2]}`;
      row.querySelector('.position').title = `epoch ${parts[0]}, offset ${parts[1]}, tag ${parts[2]}`;
    };
    const timer = setInterval(showPosition, 100);

    this.#leave.push(
      () => clearInterval(timer),
      follow(lane),
      channel.on('*', (data) => lane.mark(data.at, this.#outage?.waiting.has(channel.name) ?? false)),
      channel.on('recovered', ({ count }) => this.#channelBack(channel.name, count, 0)),
      channel.on('lost', () => this.#channelBack(channel.name, 0, 1)),
      channel.on('skipped', ({ count }) => {
        this.#counters.skipped += count;
        this.#showCounters();
      }),
    );
    return row;
  }

  #stateChanged(state, { delayMs }) {
    this.#nextAttemptAt = delayMs === undefined ? undefined : Date.now() + delayMs;
    if (state === 'open') {
      if (this.#awaySince !== undefined) {
        this.#counters.reconnects++;
        this.#outage = {
          ms: Date.now() - this.#awaySince,
          waiting: new Set(this.#lanes.keys()),
          recovered: 0,
          lost: 0,
        };
        for (const lane of this.#lanes.values()) lane.outageEnded();
        this.#showCounters();
      }
      this.#awaySince = undefined;
      this.#wasOpen = true;
    } else if (this.#wasOpen && this.#awaySince === undefined) {
      this.#awaySince = Date.now();
      for (const lane of this.#lanes.values()) lane.outageBegan();
      this.#showVerdict('away', 'Connection lost. Positions are kept; the client comes back by itself.');
    }
    this.#showStatus();
  }

  /** A channel told how the outage ended for it. */
  #channelBack(name, recovered, lost) {
    this.#counters.recovered += recovered;
    this.#counters.lost += lost;
    this.#showCounters();
    const outage = this.#outage;
    if (!outage?.waiting.delete(name)) return;
    outage.recovered += recovered;
    outage.lost += lost;
    if (outage.waiting.size > 0) return;
    this.#outage = undefined;
    const away = `${(outage.ms / 1000).toFixed(1)} s away`;
    if (outage.lost > 0) this.#showVerdict('lost', `${away}: ${count(outage.lost, 'channel')} lost publications`);
    else if (outage.recovered === 0) this.#showVerdict('back', `${away}: nothing was missed`);
    else this.#showVerdict('back', `${away}: recovered ${count(outage.recovered, 'missed publication')}`);
  }

  #showVerdict(kind, text) {
    const verdict = this.#card.querySelector('.verdict');
    verdict.dataset.kind = kind;
    verdict.textContent = text;
  }

  #showStatus() {
    const client = this.#client;
    if (!client) return;
    const { state, transport, latencyMs } = client;
    const facts = [];
    if (transport) facts.push(transport);
    if (state === 'open' && latencyMs !== undefined) facts.push(`${formatMs(latencyMs)}`);
    if (state === 'open' && this.#node) facts.push(`node ${this.#node}`);
    if (state === 'open' && this.#connection) facts.push(`#${this.#connection.slice(0, 8)}`);
    if (state === 'waiting' && this.#nextAttemptAt !== undefined) {
      facts.push(`next attempt in ${(Math.max(0, this.#nextAttemptAt - Date.now()) / 1000).toFixed(1)} s`);
    }
    showStatus(this.#card, state, facts);
  }

  #showCounters() {
    showCounters(this.#card, this.#counters);
  }
}

/** Shows a state and facts about it; touches the page only where something changed, for screen readers. */
export function showStatus(card, state, facts) {
  const dot = card.querySelector('.dot');
  if (dot.dataset.state !== state) {
    dot.dataset.state = state;
    card.querySelector('.state').textContent = state;
  }
  const text = facts.join(' · ');
  const place = card.querySelector('.facts');
  if (place.textContent !== text) place.textContent = text;
}

export function showCounters(card, counters) {
  const list = card.querySelector('.counters');
  for (const [name, value] of Object.entries(counters)) {
    let item = list.querySelector(`[data-counter="${name}"]`);
    if (!item) {
      item = document.createElement('div');
      item.dataset.counter = name;
      item.innerHTML = '<dt></dt><dd></dd>';
      item.querySelector('dt').textContent = name;
      list.append(item);
    }
    item.querySelector('dd').textContent = value.toLocaleString('en');
    item.classList.toggle('some', value > 0);
  }
}

function formatMs(ms) {
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}

function count(number, noun) {
  return `${number.toLocaleString('en')} ${noun}${number === 1 ? '' : 's'}`;
}
