import { avatar } from './people.js';

const HISTORY = 50;
const INVITATION = 'Open this page in a second window, cut one of the two connections, and keep talking in the other.';
const SAME_BREATH_MS = 120_000;

/** One chat room, as one client sees it. */
export class Chat {
  #client;
  #channel;
  #name;
  #list = document.querySelector('#messages');
  #shown = new Set();
  #early = [];
  #ready = false;
  #last;
  #away = false;

  constructor(client, room, name) {
    this.#client = client;
    this.#name = name;
    this.#channel = client.channel(`chat.${room}`);
    this.#list.replaceChildren();
    ownIds.add(client.id);
    saveOwnIds();

    const channel = this.#channel;
    channel.on('message', (data, publication) => this.#message(publication));
    channel.on('presence', (members) => this.#showPeople(members));
    channel.on('join', ({ info }) => this.#note(`${info?.name ?? 'Somebody'} joined`));
    channel.on('leave', ({ info }) => this.#note(`${info?.name ?? 'Somebody'} left`));
    channel.on('lost', () => this.#note('Some messages were lost', 'bad'));
    channel.on('recovered', ({ count }) => this.#back(count));
    channel.on('error', (error) => this.#note(error.message, 'bad'));
    client.on('state', (state) => this.#stateChanged(state));
    void this.#loadHistory();
  }

  /** Publishes; what is written while there is no connection is sent when there is one. */
  async send(text) {
    const bubble = this.#bubble({ text, name: this.#name, from: this.#client.id, at: Date.now() }, 'pending');
    this.#append(bubble);
    this.#list.scrollTop = this.#list.scrollHeight;
    try {
      await this.#channel.publish('message', { text, name: this.#name });
      bubble.remove(); // the channel has it, and so has this page: publications come before the answer or right after it
    } catch (error) {
      bubble.classList.replace('pending', 'failed');
      bubble.querySelector('.when').textContent = `not sent: ${error.message}`;
    }
  }

  /** Leaves at once: the others need not wait for the grace period of a lost connection. */
  close() {
    this.#channel.unsubscribe().catch(() => {});
    this.#client.close();
  }

  async #loadHistory() {
    try {
      await this.#channel.subscribe();
      const { publications } = await this.#channel.history({ limit: HISTORY });
      if (publications.length === 0) this.#note(INVITATION, 'hint');
      for (const publication of publications) this.#show(publication);
    } catch (error) {
      if (error.code !== 'gone') this.#note(`No history: ${error.message}`, 'bad');
    }
    this.#ready = true;
    for (const publication of this.#early.splice(0)) this.#show(publication);
    this.#list.scrollTop = this.#list.scrollHeight;
  }

  #message(publication) {
    if (this.#ready) this.#show(publication);
    else this.#early.push(publication);
  }

  #show({ offset, event, data }) {
    if (event !== 'message' || this.#shown.has(offset)) return;
    this.#shown.add(offset);
    const bubble = this.#bubble(data);
    bubble.dataset.offset = offset;
    const before = this.#last;
    bubble.classList.toggle('follows', before?.from === data.from && data.at - before.at < SAME_BREATH_MS);
    this.#last = data;
    this.#append(bubble);
  }

  #bubble({ text, name, from, at }, kind = 'sent') {
    const item = document.createElement('li');
    item.className = `message ${kind}`;
    item.classList.toggle('mine', ownIds.has(from));
    const head = document.createElement('p');
    head.className = 'head';
    const who = document.createElement('strong');
    who.textContent = name ?? 'Guest';
    const when = document.createElement('time');
    when.className = 'when';
    when.textContent = kind === 'pending' ? 'sending' : timeOf(at);
    head.append(who, ' ', when);
    const body = document.createElement('p');
    body.className = 'text';
    body.textContent = text;
    item.append(avatar(name ?? 'Guest'), head, body);
    return item;
  }

  #note(text, kind = '') {
    const item = document.createElement('li');
    item.className = `note ${kind}`;
    item.textContent = text;
    this.#last = undefined;
    this.#append(item);
  }

  #append(item) {
    const list = this.#list;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
    const firstPending = item.matches('.pending') ? null : list.querySelector('.pending');
    list.insertBefore(item, firstPending);
    if (atEnd) list.scrollTop = list.scrollHeight;
  }

  #stateChanged(state) {
    const away = state !== 'open' && state !== 'closed' && this.#channel.position !== undefined;
    if (away && !this.#away) this.#note('Connection lost. What you write is kept and sent later.', 'warn');
    if (away) this.#away = true;
  }

  #back(count) {
    if (!this.#away) return;
    this.#away = false;
    this.#note(
      count === 0
        ? 'Back. Nothing was missed.'
        : `Back. ${count === 1 ? 'One message' : `${count} messages`} recovered.`,
      'good',
    );
  }

  #showPeople(members) {
    const items = members
      .map(({ id, info }) => ({ id, name: info?.name ?? 'Guest' }))
      .sort(
        (a, b) => Number(b.id === this.#client.id) - Number(a.id === this.#client.id) || a.name.localeCompare(b.name),
      )
      .map(({ id, name }) => {
        const item = document.createElement('li');
        const label = document.createElement('span');
        label.className = 'who';
        label.textContent = name;
        item.append(avatar(name), label);
        if (id === this.#client.id) item.append(Object.assign(document.createElement('em'), { textContent: 'you' }));
        return item;
      });
    document.querySelector('#people').replaceChildren(...items);
    document.querySelector('#people-count').textContent = String(members.length);
  }
}

/** The ids of this tab's clients, those before a reload too: which messages are one's own. */
const ownIds = new Set(JSON.parse(sessionStorage.getItem('own-ids') ?? '[]'));

function saveOwnIds() {
  sessionStorage.setItem('own-ids', JSON.stringify([...ownIds].slice(-20)));
}

function timeOf(at) {
  return new Date(at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
}
