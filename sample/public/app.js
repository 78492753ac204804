import { RealtimeClient } from 'nestjs-realtime/client';
import { showScore } from './board.js';
import { Chat } from './chat.js';
import { LinkCard } from './link-card.js';
import { readNickname, saveNickname } from './people.js';
import { Quote } from './quotes.js';
import { Session, SessionLine } from './session.js';
import { SourceCard } from './source.js';

const SYMBOLS = ['NEST', 'NODE', 'RXJS'];
const MEASURE_EVERY_MS = 3_000;
const room =
  (new URLSearchParams(location.search).get('room') ?? '').replace(/[^\p{L}\p{N}_-]/gu, '').slice(0, 40) || 'lobby';
/** A little slower than the defaults, so that an outage can be watched. */
const backoff = { minMs: 1_500, maxMs: 6_000 };

document.querySelector('#chat-channel').textContent = `chat.${room}`;
if (room !== 'lobby') document.title = `${room} · nestjs-realtime`;

// Where the server demands tokens, both clients get them from a session.
const sessionLine = (await Session.required()) ? new SessionLine(signInAgain) : undefined;
let session;

// Two directions: WebSocket.
const talkCard = new LinkCard('talk-link', 'Chat over WebSocket');
let chat;
let talk;

function openChat(name) {
  talk = new RealtimeClient(`/realtime?${new URLSearchParams({ name })}`, {
    ...talkCard.cable.options,
    ...credentials(),
    transports: ['websocket'],
    backoff,
  });
  talkCard.attach(talk, [`chat.${room}`, 'stats.server']);
  talk.channel('stats.server').on('tick', showStats);
  talk.on('error', (error) => console.info(`chat client: ${error.message}`));
  talk.on('state', (state, { reason }) => state === 'closed' && reason && sessionLine?.ended(reason));
  chat = new Chat(talk, room, name);
}

// One direction: server-sent events.
const feedCard = new LinkCard('feed-link', 'Feeds over SSE');
const quotes = new Map(SYMBOLS.map((symbol) => [symbol, new Quote(symbol)]));
let feed;

function openFeed() {
  feed = new RealtimeClient('/realtime', {
    ...feedCard.cable.options,
    ...credentials(),
    transports: ['sse'],
    backoff,
  });
  feedCard.attach(feed, [...SYMBOLS.map((symbol) => `ticker.${symbol}`), 'scores.final']);
  feed.on('error', (error) => console.info(`feed client: ${error.message}`));
  feed.channel('scores.final').on('update', showScore);
  for (const [symbol, quote] of quotes) {
    feed.channel(`ticker.${symbol}`).on('price', (data, publication) => quote.add(data, publication));
  }
}

function credentials() {
  return session ? { token: () => session.token() } : {};
}

/** A name belongs to a connection: another one means other connections. */
function open(name) {
  chat?.close();
  if (sessionLine) {
    session = new Session(name);
    sessionLine.follow(session);
    feed?.close();
    feed = undefined;
  }
  openChat(name);
  if (!feed) openFeed();
}

async function signInAgain() {
  open(nickname.value);
  await session.token();
  source.restart();
}

const nickname = document.querySelector('#nickname');
nickname.value = readNickname();
open(nickname.value);
// Questions need a way up, so the other client asks for what was before.
for (const [symbol, quote] of quotes) {
  talk
    .channel(`ticker.${symbol}`)
    .history({ limit: 60 })
    .then(({ publications }) => quote.addOlder(publications))
    .catch(() => {});
}
setInterval(() => {
  if (talk.state === 'open') talk.request('echo', Date.now()).catch(() => {}); // client.latencyMs follows from it
}, MEASURE_EVERY_MS);

nickname.addEventListener('change', () => {
  const name = nickname.value.trim();
  nickname.value = name || readNickname();
  if (!name || name === readNickname()) return;
  open(saveNickname(name));
});
nickname.addEventListener('keydown', (event) => {
  if (event.key === 'Enter') nickname.blur();
});

document.querySelector('#composer').addEventListener('submit', (event) => {
  event.preventDefault();
  const field = document.querySelector('#text');
  const text = field.value.trim();
  if (text) void chat.send(text);
  field.value = '';
});

// No library at all: a bare EventSource can send no header, so the session is a cookie as well.
if (session) await session.token();
const source = new SourceCard();

addEventListener('pagehide', () => {
  chat.close();
  feed.close();
});
addEventListener('pageshow', (event) => {
  if (event.persisted) location.reload();
});

function showStats({ connections, byTransport, byNode }) {
  document.querySelector('#connection-count').textContent = connections.toLocaleString('en');
  document.querySelector('#connection-noun').textContent = connections === 1 ? 'connection' : 'connections';
  const kinds = Object.entries(byTransport)
    .sort(([a], [b]) => b.localeCompare(a))
    .map(([transport, count]) => `${count} ${transport}`);
  const nodes = Object.keys(byNode).length;
  if (nodes > 1) kinds.push(`${nodes} nodes`);
  document.querySelector('#connection-kinds').textContent = kinds.join(' · ');
}
