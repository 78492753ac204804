import { isUtf8 } from 'node:buffer';
import { isFrameId, type FrameId } from '../../../lib/protocol/frames.js';
import { ROOMS } from './app.js';
import type { Random } from './random.js';

/** What a peer sends as one message. */
export interface HostileFrame {
  readonly payload: Buffer;
  /** By what it has to be answered: exactly one final answer. `undefined`: nothing that can be read. */
  readonly id: FrameId | undefined;
  /** Whether it opens a stream that ends only when it is cancelled. */
  readonly endless: boolean;
}

const CHANNELS = [...ROOMS.map((room) => `chat.${room}`), 'open', 'closed', 'chat.nowhere', 'undeclared'];
const POSITIONS = [
  null,
  '',
  '0',
  'aaaaaa-0-0',
  'aaaaaa-1-k3',
  'AAAAAA-9007199254740991-zzzzzzz',
  '-1',
  'x'.repeat(300),
];
const EVENTS = [
  'echo',
  'later',
  'nothing',
  'order',
  'ticks',
  'forever',
  'acknowledge',
  'respond',
  'refuse',
  'break',
  'attend',
  '$subscribe',
  '$unsubscribe',
  '$publish',
  '$history',
  '$presence',
  '$auth',
  '$resume',
  '$cancel',
  '$pong',
];

/** What stands where something else was expected, as JSON text. */
const STRANGE = [
  'null',
  'true',
  '0',
  '-0',
  '-1',
  '1e999',
  '9007199254740993',
  '0.1',
  '""',
  '"\\u0000"',
  '"\\ud800"',
  '"\\udc00\\ud800"',
  '"__proto__"',
  '"constructor"',
  '[]',
  '[[]]',
  '{}',
  '{"__proto__":{"polluted":1}}',
  '{"constructor":{"prototype":{"polluted":1}}}',
  '{"toString":null,"valueOf":1,"then":"x"}',
  '{"length":-1}',
  `"${'x'.repeat(1_000)}"`,
  `"${'é'.repeat(200)}"`,
  '"a,b"',
  '"a\\r\\nb"',
  '"$lost"',
];

/** Frames that are no mutation of a good one; `ID` stands for an id that was not used yet. */
const HAND_PICKED: readonly string[] = [
  '',
  ' ',
  'null',
  'NaN',
  '{"id":NaN,"event":"echo"}',
  '{"id":ID,"event":"echo","data":NaN}',
  '{"id":Infinity}',
  'undefined',
  '[]',
  '[{"id":ID,"event":"echo"}]',
  '"echo"',
  '7',
  '{}',
  '{"id":ID}',
  '{"event":""}',
  '{"id":ID,"event":""}',
  '{"id":ID,"event":7}',
  `{"id":ID,"event":"${'e'.repeat(129)}"}`,
  '{"id":ID,"event":"$"}',
  '{"id":ID,"event":"$lost"}',
  '{"id":ID,"event":"$connected","data":{}}',
  '{"id":ID,"event":"toString"}',
  '{"id":ID,"event":"__proto__"}',
  '{"id":ID,"event":"constructor","data":{}}',
  '{"id":ID,"event":"hasOwnProperty"}',
  '{"__proto__":{"id":ID,"event":"echo"}}',
  '{"__proto__":{"event":"echo"},"id":ID}',
  '{"id":ID,"event":"echo","__proto__":{"data":1}}',
  '{"id":ID,"event":"echo","data":{"__proto__":{"polluted":1}}}',
  '{"id":ID,"event":"echo","data":{"constructor":{"prototype":{"polluted":1}}}}',
  '{"id":ID,"event":"order","data":{"__proto__":{"what":"x","count":1}}}',
  '{"id":ID,"event":"order","data":{"what":{"toString":1},"count":1e999}}',
  '{"id":ID,"event":"order","data":[{"what":"x"}]}',
  '{"id":ID,"event":"$publish","data":{"channel":"open","event":"__proto__","data":{"__proto__":{"polluted":1}}}}',
  '{"id":ID,"event":"$publish","data":{"channel":"open","event":"a\\r\\nb\\u2028","data":"\\u2029"}}',
  '{"id":ID,"event":"$publish","data":{"channel":"chat.a","event":"break"}}',
  '{"id":ID,"event":"$resume","data":{"client":"c","channels":{"__proto__":null,"constructor":"x","chat.a":null}}}',
  '{"id":ID,"event":"$resume","data":{"client":"","channels":{}}}',
  '{"id":ID,"event":"$cancel","data":{"id":ID}}',
  '{"id":1,"id":ID,"event":"echo"}',
  '{"event":"refuse","id":ID,"event":"echo"}',
  '{"id":"","event":"echo"}',
  `{"id":"${'i'.repeat(64)}","event":"echo"}`,
  `{"id":"${'i'.repeat(65)}","event":"echo"}`,
  '{"id":-1,"event":"echo"}',
  '{"id":1.5,"event":"echo"}',
  '{"id":9007199254740992,"event":"echo"}',
  '{"id":9007199254740991,"event":"echo"}',
  `{"id":${'9'.repeat(400)},"event":"echo"}`,
  '{"id":[ID],"event":"echo"}',
  '{"id":{"toString":"x"},"event":"echo"}',
  '{"id":"\\ud800","event":"echo"}',
  '{"id":"__proto__","event":"echo"}',
  '{"id":ID,"event":"\\ud800"}',
  '{"id":ID,"event":"echo","data":"\\ud800"}',
  '\ufeff{"id":ID,"event":"echo"}',
  '['.repeat(5_000),
  `{"id":ID,"event":"echo","data":${'['.repeat(3_000)}${']'.repeat(3_000)}}`,
  `{"id":ID,"event":"echo","data":${'{"a":'.repeat(2_000)}1${'}'.repeat(2_000)}}`,
  `{"id":ID,"event":"order","data":${'{"what":'.repeat(2_000)}1${'}'.repeat(2_000)}}`,
  `{"id":ID,"event":"order","data":${'{"what":'.repeat(63)}1${'}'.repeat(63)}}`,
  `{"id":ID,"event":"echo","data":${'['.repeat(64)}${']'.repeat(64)}}`,
];

/** Makes frames of a peer: good ones of every kind, mutations of them, and picked ones. */
export class FrameSource {
  #id = 1_000;

  constructor(private readonly random: Random) {}

  next(): HostileFrame {
    const { random } = this;
    const kind = random.int(20);
    if (kind < 4) return frame(Buffer.from(this.#good()));
    if (kind < 7) return frame(Buffer.from(random.pick(HAND_PICKED).replaceAll('ID', String(this.#id++))));
    if (kind < 12) return frame(Buffer.from(this.#strange(this.#good())));
    return frame(this.#mangled(Buffer.from(this.#good())));
  }

  /** A frame as a peer means it. */
  #good(): string {
    const { random } = this;
    const event = random.pick(EVENTS);
    const id = this.#id++;
    const identified = random.chance(0.85) ? { id: random.chance(0.2) ? `text-${String(id)}` : id } : {};
    return JSON.stringify({ ...identified, event, data: this.#dataFor(event) });
  }

  #dataFor(event: string): unknown {
    const { random } = this;
    const channel = random.pick(CHANNELS);
    const since = random.pick(POSITIONS);
    switch (event) {
      case 'order':
        return { what: 'tea', count: random.int(9) };
      case '$subscribe':
      case '$unsubscribe':
      case '$presence':
        return random.chance(0.3) ? { channel, since } : { channel };
      case '$publish':
        return {
          channel,
          event: random.pick(['message', 'other', 'break']),
          data: { n: 1 },
          key: 'k',
          echo: random.chance(0.5),
        };
      case '$history':
        return { channel, since, limit: random.int(20), reverse: random.chance(0.5) };
      case '$auth':
        return { token: 'whatever' };
      case '$resume':
        return { client: 'c', channels: { [channel]: since, [random.pick(CHANNELS)]: null } };
      case '$cancel':
        return { id: this.#id - 1 - random.int(5) };
      default:
        return random.pick<unknown>([1, 'text', null, { a: [1, 2, { b: 3 }] }, undefined]);
    }
  }

  /** Puts something strange in place of a value, or beside it. */
  #strange(json: string): string {
    const { random } = this;
    const values = [...json.matchAll(/(?<=:)(?:"(?:[^"\\]|\\.)*"|[\d.]+|null|true|false)/g)];
    if (values.length === 0 || random.chance(0.2)) {
      const extra = random.pick(['__proto__', 'constructor', 'toJSON', 'then', 'id', 'event', 'data', '']);
      return `${json.slice(0, -1)},"${extra}":${random.pick(STRANGE)}}`;
    }
    const { index, 0: value } = random.pick(values);
    return json.slice(0, index) + random.pick(STRANGE) + json.slice(index + value.length);
  }

  /** Changes bytes, whatever they mean. */
  #mangled(bytes: Buffer): Buffer {
    const { random } = this;
    let result = bytes;
    for (let times = 1 + random.int(3); times > 0; times--) {
      const at = random.int(result.length + 1);
      const to = Math.min(result.length, at + random.int(8));
      const middle = random.pick<() => Buffer>([
        () => Buffer.alloc(0),
        () => Buffer.from([random.int(256)]),
        () => Buffer.concat([result.subarray(at, to), result.subarray(at, to)]),
        () => Buffer.from(random.text('{}[]",:0123456789eE+-.\\u$ ', 6)),
        () => Buffer.from([0xff, 0xc0, 0xed, 0xa0, 0x80].slice(random.int(4))),
      ])();
      result = Buffer.concat([result.subarray(0, at), middle, result.subarray(to)]);
    }
    return result;
  }
}

/** What a payload is to a hub that follows the protocol (clauses 1.3 and 1.8). */
function frame(payload: Buffer): HostileFrame {
  const unread = { payload, id: undefined, endless: false };
  if (!isUtf8(payload)) return unread;
  let value: unknown;
  try {
    value = JSON.parse(payload.toString());
  } catch {
    return unread;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return unread;
  const { id, event } = value as { id?: unknown; event?: unknown };
  return { payload, id: isFrameId(id) ? id : undefined, endless: event === 'forever' && isFrameId(id) };
}
