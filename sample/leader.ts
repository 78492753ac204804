import { hostname } from 'node:os';
import type { OnModuleDestroy, OnModuleInit } from '@nestjs/common';
import { Redis } from 'ioredis';

const KEY = 'realtime-demo:leader';
const LEASE_MS = 2_000;
const BEAT_MS = 500;

/** Takes the lease if it is free, keeps it if it is ours. */
const TAKE = `
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`;
const RELEASE = `if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end`;

/**
 * Which node publishes the feeds: the one that holds a lease in Redis. Where that node dies, another takes the lease
 * once it ran out, after two seconds at most; a node that is alone always leads.
 *
 * This is enough for prices. It is not exactly once: a publication that is under way when its node freezes may arrive
 * after another node took over. What must not happen twice takes `publish(…, { idempotencyKey })` as well.
 */
export class Leader implements OnModuleInit, OnModuleDestroy {
  #redis: Redis | undefined;
  #timer: NodeJS.Timeout | undefined;
  #leadsUntil = 0;

  /** @param url where the lease is; `undefined` for a node that is alone */
  constructor(
    private readonly url: string | undefined,
    private readonly node = `${hostname()}:${process.pid}`,
  ) {}

  get leads(): boolean {
    return this.url === undefined || performance.now() < this.#leadsUntil;
  }

  onModuleInit(): void {
    if (this.url === undefined) return;
    // What could not be asked now is asked anew with the next beat.
    this.#redis = new Redis(this.url, {
      commandTimeout: BEAT_MS,
      enableOfflineQueue: false,
      maxRetriesPerRequest: 0,
      retryStrategy: () => BEAT_MS,
    });
    this.#redis.on('error', () => undefined); // the broker tells that Redis is away
    this.#redis.on('ready', () => void this.#beat());
    this.#timer = setInterval(() => void this.#beat(), BEAT_MS);
  }

  async onModuleDestroy(): Promise<void> {
    clearInterval(this.#timer);
    this.#leadsUntil = 0;
    await this.#redis?.eval(RELEASE, 1, KEY, this.node).catch(() => undefined); // others need not wait
    this.#redis?.disconnect();
  }

  async #beat(): Promise<void> {
    const askedAt = performance.now(); // Redis counts from later on: it is never free while we believe to have it
    try {
      const taken = await this.#redis!.eval(TAKE, 1, KEY, this.node, LEASE_MS);
      this.#leadsUntil = taken === 1 ? askedAt + LEASE_MS : 0;
    } catch {
      // The lease runs out, here as in Redis.
    }
  }
}
