// Clients that come and go over all transports, and use what there is. Commands come by IPC:
//   start { ports, peers } → nothing; each peer's place is taken by another one when it leaves
//   look {} → how many files the process has open, sockets among them
//   stop {} → { lives, calls, failures } once all have left; failures by the code of the error
import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { RealtimeClient } from 'nestjs-realtime/client';

const TRANSPORTS = ['websocket', 'sse', 'long-polling'];
/** Names that all peers take from: few enough to meet, and the others to come and go. */
const TALKS = 4;
const ROOMS = 200;
const LIFE_MS = 15_000;
const PAUSE_MS = 500;

const done = { lives: 0, calls: 0, failures: {} };
let stopping = false;
let lives = [];

const any = (count) => Math.floor(Math.random() * count);
/** A random time of this mean, as between independent events. */
const around = (meanMs) => -Math.log(1 - Math.random()) * meanMs;

/** One of the things that a peer does, and how often. */
const ACTS = [
  [4, ({ talk }) => talk.publish('said', { text: 'x'.repeat(any(400)) })],
  [1, ({ room }) => room.publish('said', { text: 'x'.repeat(any(4_000)) })],
  [3, ({ client }) => client.request('echo', { n: 1 })],
  [1, ({ talk }) => talk.history({ limit: 20 })],
  [1, ({ client }) => client.request('$presence', { channel: `talk.${any(TALKS)}` })],
  [1, ({ client }) => client.reconnect()],
].flatMap(([times, act]) => Array(times).fill(act));

async function live(port, transport) {
  const client = new RealtimeClient(`http://127.0.0.1:${port}/realtime`, { WebSocket, transports: [transport] });
  client.on('error', fail);
  const talk = client.channel(`talk.${any(TALKS)}`);
  const room = client.channel(`room.${any(ROOMS)}`);
  for (const channel of [talk, room]) {
    channel.on('said', () => {});
    channel.on('lost', () => {}); // rooms forget soon
  }
  talk.on('join', () => {});
  const end = performance.now() + 500 + around(LIFE_MS);
  while (!stopping && performance.now() < end) {
    await sleep(around(PAUSE_MS));
    done.calls++;
    await Promise.resolve(ACTS[any(ACTS.length)]({ client, talk, room })).catch(fail);
  }
  client.close();
  done.lives++;
}

function fail(error) {
  const name = error.code ?? error.message;
  done.failures[name] = (done.failures[name] ?? 0) + 1;
}

/** A place for one peer after another. */
async function place(ports, i) {
  for (let n = i; !stopping; n++) await live(ports[any(ports.length)], TRANSPORTS[n % TRANSPORTS.length]);
}

const commands = {
  start({ ports, peers }) {
    lives = Array.from({ length: peers }, (_, i) => place(ports, i));
  },
  look: () => ({ files: readdirSync('/proc/self/fd').length }),
  async stop() {
    stopping = true;
    await Promise.all(lives);
    return done;
  },
};

process.on('message', async ({ id, command, ...rest }) => {
  process.send({ id, answer: await commands[command](rest) });
});
process.on('disconnect', () => process.exit(0));
