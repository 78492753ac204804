// Peers of each transport of this library in one process, for figures side by side. Commands come by IPC:
//   open { transport, port, count } → {} once all are subscribed
//   delays { count } → { delays }, µs in ascending order, once so many stamped messages came: how late they were
import { Agent, request } from 'node:http';
import { WebSocket } from 'ws';

const CHANNEL = 'bench.one';
const STAMP = /@(\d{16})@/g;
/** Connections that open at once. */
const OPENING = 200;

const agent = new Agent({ keepAlive: true, maxSockets: Infinity });
let delays = [];
let wanted = Infinity;
let arrived;

function take(text) {
  const now = process.hrtime.bigint() / 1000n;
  for (const [, stamp] of text.matchAll(STAMP)) delays.push(Number(now - BigInt(stamp)));
  if (delays.length >= wanted) arrived();
}

/** How a peer of each transport opens: calls `ready` once it is subscribed. */
const open = {
  websocket(port, ready) {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/realtime`, { perMessageDeflate: false });
    socket.on('open', () => socket.send(JSON.stringify({ id: 1, event: '$subscribe', data: { channel: CHANNEL } })));
    socket.on('message', (bytes) => {
      const text = bytes.toString();
      if (text.startsWith('{"id":1')) ready();
      else take(text);
    });
    socket.on('error', fail);
  },
  sse(port, ready) {
    const asked = request({ port, host: '127.0.0.1', path: `/realtime/sse?channels=${CHANNEL}`, agent: false });
    asked.on('error', fail);
    asked.on('response', (response) => {
      response.setEncoding('utf8').once('data', ready).on('data', take);
    });
    asked.end();
  },
  'long-polling'(port, ready) {
    let state = { positions: { [CHANNEL]: null } };
    const poll = () => {
      post(port, state, ({ pass, inbox, positions, frames }) => {
        if (pass !== undefined) ready();
        state = { pass: pass ?? state.pass, inbox, positions: { ...state.positions, ...positions } };
        take(JSON.stringify(frames));
        poll();
      });
    };
    poll();
  },
};

function post(port, body, then) {
  const headers = { 'Content-Type': 'application/json' };
  const asked = request({ port, host: '127.0.0.1', path: '/realtime/poll', method: 'POST', agent, headers });
  asked.on('error', fail);
  asked.on('response', (response) => {
    let text = '';
    response.setEncoding('utf8').on('data', (chunk) => (text += chunk));
    response.on('end', () => {
      if (response.statusCode >= 300) fail(new Error(`${response.statusCode} ${text}`));
      then(JSON.parse(text));
    });
  });
  asked.end(JSON.stringify(body));
}

function fail(error) {
  console.error(error);
  process.exit(1);
}

const commands = {
  async open({ transport, port, count }) {
    let left = count;
    const openOne = async () => {
      while (left-- > 0) await new Promise((resolve) => open[transport](port, resolve));
    };
    await Promise.all(Array.from({ length: OPENING }, openOne));
    return {};
  },
  async delays({ count }) {
    wanted = count;
    if (delays.length < count) await new Promise((resolve) => (arrived = resolve));
    wanted = Infinity;
    const taken = delays.sort((a, b) => a - b);
    delays = [];
    return { delays: taken };
  },
};

process.on('message', async ({ id, command, ...rest }) => process.send({ id, answer: await commands[command](rest) }));
process.on('disconnect', () => process.exit(0));
