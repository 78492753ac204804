/** How many partitions the keys of an installation have. It can never change without losing what is stored. */
export const PARTITIONS = 256;

const TABLE = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1;
  return crc;
});

/** CRC-16/XMODEM of the UTF-8 bytes, the one that Redis Cluster uses for its slots. */
export function crc16(text: string): number {
  let crc = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 0x7f) return crc16OfBytes(Buffer.from(text));
    crc = ((crc << 8) & 0xffff) ^ TABLE[(crc >> 8) ^ code]!;
  }
  return crc;
}

function crc16OfBytes(bytes: Uint8Array): number {
  let crc = 0;
  for (const byte of bytes) crc = ((crc << 8) & 0xffff) ^ TABLE[(crc >> 8) ^ byte]!;
  return crc;
}

/**
 * The names of everything in Redis. A name in braces is a hash tag: what shares it is in one slot of a Cluster, so that
 * one script can use it.
 */
export class RedisKeys {
  /** The number of partitions, as the first node wrote it. */
  readonly config: string;
  /** Sorted set: node → last beat, ms; below zero: the time at which it was marked dead. */
  readonly nodes: string;
  /** Sorted set: dead node whose connections are being claimed → when it was marked, ms. */
  readonly dead: string;
  /** Hash: what the sweeps know of the broker's own availability. */
  readonly watch: string;
  /** Sorted set: connection and channel → when the departure is due, ms. */
  readonly departures: string;
  /** Sorted set: partition with claims → when to look after them again, ms. */
  readonly claimed: string;
  /** Sorted set: revoked token or user → until when that is needed, ms. */
  readonly revoked: string;
  /** Hash: revoked user → up to when the tokens were issued that are meant, ms. */
  readonly revokedBefore: string;
  /** Sorted set: record of a connection → when to look after it, ms. */
  readonly records: string;
  private readonly tags: readonly string[];

  constructor(
    prefix: string,
    readonly partitions: number,
  ) {
    this.config = `${prefix}:config`;
    this.nodes = `${prefix}:{lease}:nodes`;
    this.dead = `${prefix}:{lease}:dead`;
    this.watch = `${prefix}:{lease}:watch`;
    this.claimed = `${prefix}:{lease}:claimed`;
    this.departures = `${prefix}:{lease}:departures`;
    this.records = `${prefix}:{lease}:records`;
    this.revoked = `${prefix}:{revoked}:until`;
    this.revokedBefore = `${prefix}:{revoked}:before`;
    this.tags = Array.from({ length: partitions }, (_, p) => `${prefix}:{${p}}:`);
  }

  /** The partition of a channel, user or connection. */
  partitionOf(name: string): number {
    return crc16(name) % this.partitions;
  }

  /** Hash: epoch, offset, tag and idempotency keys of a channel; also the pub/sub name of its announcements. */
  meta(channel: string): string {
    return `${this.tagOf(channel)}m:${channel}`;
  }

  /** Stream: the history of a channel. */
  stream(channel: string): string {
    return `${this.tagOf(channel)}s:${channel}`;
  }

  /** Hash: the members of a channel. */
  presence(channel: string): string {
    return `${this.tagOf(channel)}r:${channel}`;
  }

  /** Hash: the connections of a node in a partition. */
  connections(partition: number, node: string): string {
    return `${this.tags[partition]!}n:${node}`;
  }

  /** Hash: the connections in a partition that were taken over from dead nodes. */
  claims(partition: number): string {
    return `${this.tags[partition]!}claims`;
  }

  /** Hash: node → how many connections of a subject it has. */
  counts(subject: string): string {
    return `${this.tagOf(subject)}k:${subject}`;
  }

  /** Hash: the record of a connection. */
  record(id: string): string {
    return `${this.tagOf(id)}c:${id}`;
  }

  /** List: the frames of a connection that its peer has not acknowledged. */
  inbox(id: string): string {
    return `${this.tagOf(id)}i:${id}`;
  }

  /** Text: the answers to the last frames that a connection sent. */
  answers(id: string): string {
    return `${this.tagOf(id)}a:${id}`;
  }

  /** Set: the records in a partition. */
  recordsIn(partition: number): string {
    return `${this.tags[partition]!}x`;
  }

  /** Sorted set: a subject's records → when they were last seen, ms. */
  recordsOf(subject: string): string {
    return `${this.tagOf(subject)}q:${subject}`;
  }

  /** Pub/sub name: what a session is told of its records. */
  nudges(session: string): string {
    return `${this.tagOf(session)}g:${session}`;
  }

  /** Text: what is to be taken once. */
  once(key: string): string {
    return `${this.tagOf(key)}1:${key}`;
  }

  private tagOf(channel: string): string {
    return this.tags[this.partitionOf(channel)]!;
  }
}
