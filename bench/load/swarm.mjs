// Real clients in one process, of this library or of Socket.IO, that are cut off or whose nodes go away. Commands by IPC:
//   open { kind, port, count, delayMs? } → {} once all are open and subscribed; delayMs: how long they wait to come back
//   storm { everyMs, seconds, delayMs } → {} in the end: each client's TCP connection is killed about so often
//   report { count, withinMs } → what all saw of publications 0 to count - 1, once all have the last one or the time is over
import { Manager } from 'socket.io-client';
import { WebSocket } from 'ws';
import { RealtimeClient } from '../../dist/esm/client/index.js';

const CHANNEL = 'bench.one';
const STAMP = /^@(\d{16})@#(\d+)#/;
/** Clients that open at once. */
const OPENING = 200;

/** What one client sees, whatever it is. */
class Watch {
  last = -1;
  lost = 0;
  repeated = 0;
  gaveUp = false;
  /** The longest time that a publication took, µs. */
  latest = 0;
  /** Since when it may come back, and up to which publication it is to hear then. */
  #since;
  #target;

  take(text) {
    const [, stamp, digits] = STAMP.exec(text);
    const number = Number(digits);
    const now = process.hrtime.bigint() / 1000n;
    if (number <= this.last) this.repeated++;
    else {
      this.lost += number - this.last - 1;
      this.last = number;
      newest = Math.max(newest, number);
    }
    this.latest = Math.max(this.latest, Number(now - BigInt(stamp)));
    if (this.#since !== undefined && this.last >= this.#target) {
      replays.push(Number(now - this.#since));
      this.#since = undefined;
    }
    if (this.last >= wanted) arrived();
  }

  comesBack() {
    if (this.last >= newest) return; // nothing was missed
    this.#since = process.hrtime.bigint() / 1000n;
    this.#target = newest;
  }
}

const swarm = [];
let newest = -1;
let replays = [];
let kills = 0;
let wanted = Infinity;
let arrived = () => {};

/** How a client of each kind is opened: `kill` destroys its TCP connection. */
const kinds = {
  async realtime(port, watch, delayMs) {
    let socket;
    class Socket extends WebSocket {
      constructor(...args) {
        super(...args);
        socket = this;
      }
    }
    const client = new RealtimeClient(`http://127.0.0.1:${port}/realtime`, {
      transports: ['websocket'],
      WebSocket: Socket,
      ...(delayMs === undefined ? {} : { backoff: { minMs: delayMs, maxMs: delayMs } }),
    });
    const channel = client.channel(CHANNEL);
    channel.on('message', (data) => watch.take(data));
    client.on('state', (state) => (watch.gaveUp = state === 'closed'));
    client.on('error', () => {});
    await channel.subscribe();
    return { kill: () => socket.terminate(), close: () => client.close() };
  },
  async socketIo(port, watch, delayMs) {
    const delays =
      delayMs === undefined
        ? {}
        : { reconnectionDelay: delayMs, reconnectionDelayMax: delayMs, randomizationFactor: 0 };
    const manager = new Manager(`http://127.0.0.1:${port}`, { transports: ['websocket'], ...delays });
    const socket = manager.socket('/');
    socket.on('message', (data) => watch.take(data));
    socket.on('disconnect', () => (watch.gaveUp = !socket.active));
    await new Promise((resolve) => socket.once('connect', resolve));
    return { kill: () => manager.engine.transport.ws?.terminate(), close: () => socket.disconnect() };
  },
};

const commands = {
  async open({ kind, port, count, delayMs }) {
    let left = count;
    const openSome = async () => {
      while (left-- > 0) {
        const watch = new Watch();
        swarm.push({ watch, ...(await kinds[kind](port, watch, delayMs)) });
      }
    };
    await Promise.all(Array.from({ length: OPENING }, openSome));
    return {};
  },

  async storm({ everyMs, seconds, delayMs }) {
    const end = Date.now() + seconds * 1000;
    await Promise.all(
      swarm.map(
        ({ watch, kill }, i) =>
          new Promise((resolve) => {
            // Spread over the interval, and each a little off it.
            const next = (wait) => {
              if (Date.now() + wait > end) resolve();
              else setTimeout(cut, wait);
            };
            const cut = () => {
              kills++;
              kill();
              setTimeout(() => watch.comesBack(), delayMs);
              next(everyMs * (0.8 + 0.4 * fraction(i + kills)));
            };
            next(everyMs * fraction(i));
          }),
      ),
    );
    return {};
  },

  async report({ count, withinMs }) {
    wanted = count - 1;
    const isDone = () => swarm.every(({ watch }) => watch.last >= wanted);
    let limit;
    await new Promise((resolve) => {
      arrived = () => isDone() && resolve();
      limit = setTimeout(resolve, withinMs);
      arrived();
    });
    clearTimeout(limit);
    wanted = Infinity;
    const watches = swarm.map(({ watch }) => watch);
    const sum = (of) => watches.reduce((total, watch) => total + of(watch), 0);
    const missing = sum(({ lost, last }) => lost + (count - 1 - last));
    return {
      expected: count * watches.length,
      missing,
      repeated: sum(({ repeated }) => repeated),
      gaveUp: sum(({ gaveUp }) => Number(gaveUp)),
      behind: sum(({ last }) => Number(last < count - 1)),
      kills,
      replays: replays.sort((a, b) => a - b),
      gaps: watches.map(({ latest }) => latest).sort((a, b) => a - b),
    };
  },

  usage() {
    const { user, system } = process.cpuUsage();
    return { cpu: user + system };
  },
};

/** The same fractions in every run. */
function fraction(n) {
  return (n * 0.618_033_988_75) % 1;
}

process.on('message', async ({ id, command, ...rest }) => process.send({ id, answer: await commands[command](rest) }));
process.on('disconnect', () => process.exit(0));
