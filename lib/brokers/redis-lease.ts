import type { Claim } from '../hub/ports/broker.js';
import type { RedisCommands } from './redis-commands.js';
import { RedisDue } from './redis-due.js';
import type { RedisKeys } from './redis-keys.js';
import { BEAT, CLAIM, RECLAIM, SWEEP } from './redis-lease-scripts.js';
import type { RedisPresence } from './redis-presence.js';
import { parseRecord } from './redis-registry.js';

/** Connections that are claimed in one step. */
const CLAIMS_PER_CALL = 256;
/** Claimed connections whose hooks run at a time: past it, others claim, or this node later. */
const MAX_RUNNING = 1_024;

/** What happens to this node. */
export interface LeaseEvents {
  onClaim(claim: Claim): Promise<void>;
  /** The node was marked dead; returns its new id. */
  onDead(): string;
  onHold(hold: boolean): void;
  /** Redis is another process than at the last beat, or has forgotten the node: it may have lost what was written. */
  onLoss(): void;
}

/** How a lease is kept. */
export interface LeaseOptions {
  readonly leaseMs: number;
  /** Whether frames are held when the lease is in doubt. */
  readonly fence: boolean;
}

/**
 * This node's lease, and its share in finding dead nodes. A lease lasts `leaseMs`; it is in doubt when
 * two thirds have passed since the last answered beat was sent, long before anybody may claim.
 */
export class RedisLease {
  /** When the last beat that was answered had been sent, by the monotonic clock. */
  private heldFrom = -Infinity;
  private run = '';
  private beating: Promise<void> | undefined;
  private timer: NodeJS.Timeout | undefined;
  private readonly waiting = new Set<(held: boolean) => void>();
  private holding = false;
  private tickedAt = performance.now();
  private sweptAt = -Infinity;
  private sweeping = false;
  private looked = false;
  private running = 0;
  /** Claimed connections whose hooks have run, and their partitions, until Redis has let go of the claim. */
  private readonly settled = new Map<string, number>();
  /** The partitions with claims, due when those may have lapsed. */
  private readonly claimed: RedisDue;

  constructor(
    private readonly commands: RedisCommands,
    private readonly keys: RedisKeys,
    private readonly presence: RedisPresence,
    private readonly options: LeaseOptions,
    private readonly events: LeaseEvents,
    private node: string,
  ) {
    this.claimed = new RedisDue(commands, keys.claimed);
  }

  /** The first beat, and the clock of the others. Rejects where Redis cannot be used. */
  async open(): Promise<void> {
    await this.beat(true);
    this.timer = setInterval(() => this.tick(), this.options.leaseMs / 12).unref();
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    for (const resolve of this.waiting) resolve(false);
    this.waiting.clear();
    await this.commands.call(({ redis }) => redis.zrem(this.keys.nodes, this.node), { effect: 'repeat' });
  }

  /** Beats at once: the connection is there again. */
  check(): void {
    this.beat().catch(() => undefined);
  }

  holds(): Promise<boolean> {
    if (this.certain) return Promise.resolve(true);
    this.check();
    return new Promise((resolve) => this.waiting.add(resolve));
  }

  /** Looks for dead nodes when it is time, and claims their connections. */
  async sweep(): Promise<void> {
    const now = performance.now();
    if (this.sweeping || this.running > MAX_RUNNING || now - this.sweptAt < this.options.leaseMs / 6) return;
    this.sweptAt = now;
    this.sweeping = true;
    try {
      await Promise.all([...this.settled].map(([id, partition]) => this.letGo(partition, id)));
      // Where Redis was away, whoever made a claim has as long to let go of it as nodes have to beat.
      this.looked = await this.claimFromTheDead();
      if (this.looked) await this.claimAgain();
    } finally {
      this.sweeping = false;
    }
  }

  /** Whether Redis was there long enough, when it was last looked, that who has not been heard of is gone. */
  get vigilant(): boolean {
    return this.looked;
  }

  private get certain(): boolean {
    return performance.now() - this.heldFrom < (this.options.leaseMs * 2) / 3;
  }

  private tick(): void {
    const { leaseMs, fence } = this.options;
    const now = performance.now();
    const stood = now - this.tickedAt > leaseMs / 3;
    this.tickedAt = now;
    if (stood || (fence && !this.certain)) this.hold(true);
    if (this.holding || now - this.heldFrom >= leaseMs / 3 - leaseMs / 24) this.check();
  }

  private hold(hold: boolean): void {
    if (this.holding === hold) return;
    this.holding = hold;
    this.events.onHold(hold);
  }

  private beat(first = false): Promise<void> {
    return (this.beating ??= this.send(first).finally(() => (this.beating = undefined)));
  }

  private async send(first: boolean): Promise<void> {
    const sentAt = performance.now();
    const answer = await this.commands.run(BEAT, [this.keys.nodes], [this.node], { effect: 'repeat' });
    const [state, run] = answer as ['held' | 'new' | 'dead', string];
    const dead = state === 'dead';
    if (dead) this.node = this.events.onDead();
    else this.heldFrom = sentAt;
    for (const resolve of this.waiting) resolve(!dead);
    this.waiting.clear();
    if (dead) return this.send(true);
    this.hold(false);
    const lost = !first && (state === 'new' || run !== this.run);
    this.run = run;
    if (lost) this.events.onLoss();
  }

  /** False: Redis was away lately, and nobody may be taken for dead. */
  private async claimFromTheDead(): Promise<boolean> {
    const { nodes, watch, dead, partitions } = this.keys;
    const { leaseMs } = this.options;
    const [looked, found] = (await this.commands.run(SWEEP, [nodes, watch, dead], [leaseMs], {
      effect: 'repeat',
    })) as [number, string[]];
    for (let i = 0; i < found.length; i += 2) {
      const node = found[i]!;
      for (let partition = 0; partition < partitions; partition++) {
        if (this.running > MAX_RUNNING) return false;
        await this.claimPartition(node, partition);
      }
      // A dead node may have written until its mark, and what it wrote may arrive late.
      if (Number(found[i + 1]) > 2 * leaseMs) {
        await this.commands.call(({ redis }) => redis.zrem(dead, node), { effect: 'repeat' });
      }
    }
    return looked === 1;
  }

  private async claimPartition(node: string, partition: number): Promise<void> {
    const key = this.keys.connections(partition, node);
    if ((await this.commands.call(({ redis }) => redis.exists(key), { effect: 'read' })) === 0) return;
    const forMs = 2 * this.options.leaseMs;
    // Looked after when the claims have lapsed, a little later than they are made.
    await this.claimed.addAfter(forMs + this.options.leaseMs / 6, String(partition));
    for (;;) {
      const records = (await this.commands.run(CLAIM, [key, this.keys.claims(partition)], [forMs, CLAIMS_PER_CALL], {
        effect: 'once',
      })) as string[];
      for (const record of records) this.take(partition, record);
      if (records.length < CLAIMS_PER_CALL || this.running > MAX_RUNNING) return;
    }
  }

  private async claimAgain(): Promise<void> {
    const forMs = 2 * this.options.leaseMs;
    const { till, members } = await this.claimed.take(this.keys.partitions, forMs);
    for (const name of members) {
      const key = this.keys.claims(Number(name));
      for (;;) {
        const [count, records] = (await this.commands.run(RECLAIM, [key], [forMs, CLAIMS_PER_CALL], {
          effect: 'once',
        })) as [number, string[]];
        if (count === 0) await this.claimed.forget(till, [name]);
        for (const record of records) this.take(Number(name), record);
        if (records.length < CLAIMS_PER_CALL || this.running > MAX_RUNNING) break;
      }
    }
  }

  private take(partition: number, record: string): void {
    this.running += 1;
    const done = (): void => {
      if (limit === undefined) return;
      clearTimeout(limit);
      limit = undefined;
      this.running -= 1;
    };
    // What takes longer is claimed again, and does not count any more.
    let limit: NodeJS.Timeout | undefined = setTimeout(done, 2 * this.options.leaseMs).unref();
    this.settle(partition, record).then(done, done);
  }

  /** Does what a dead node owes a connection, once, then lets go of the claim. What fails is claimed again. */
  private async settle(partition: number, text: string): Promise<void> {
    const space = text.indexOf(' ');
    const { info, members, over } = parseRecord(text.slice(space + 1));
    await Promise.all(members.map((channel) => this.presence.leaveAll(channel, [info.id], info.node)));
    if (!over && !this.settled.has(info.id)) {
      await this.events.onClaim({ connection: info, attempt: Number(text.slice(0, space)) });
    }
    this.settled.set(info.id, partition);
    await this.letGo(partition, info.id);
  }

  /** Tells Redis that nothing is owed any more; told again by each sweep until it is known to be. */
  private async letGo(partition: number, id: string): Promise<void> {
    const claims = this.keys.claims(partition);
    await this.commands.call(({ redis }) => redis.hdel(claims, id), { effect: 'repeat' });
    this.settled.delete(id);
  }
}
