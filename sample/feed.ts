import { Logger, type OnApplicationBootstrap, type OnModuleDestroy } from '@nestjs/common';
import type { Leader } from './leader.js';

/** Publishes again and again while the application runs; of several nodes, one does. */
export abstract class Feed implements OnApplicationBootstrap, OnModuleDestroy {
  protected abstract readonly intervalMs: number;
  #timer: NodeJS.Timeout | undefined;
  #busy = false;
  #publishing = false;

  constructor(private readonly leader: Leader) {}

  protected abstract publishNext(): Promise<unknown>;

  /** This node begins to publish: here it reads where another one stopped. */
  protected async takeOver(): Promise<void> {}

  onApplicationBootstrap(): void {
    this.#timer = setInterval(() => void this.#step(), this.intervalMs);
  }

  onModuleDestroy(): void {
    clearInterval(this.#timer);
  }

  async #step(): Promise<void> {
    if (this.#busy) return; // Redis is slow: what was not published in time is left out
    this.#busy = true;
    try {
      if (!this.leader.leads) {
        this.#publishing = false;
        return;
      }
      if (!this.#publishing) await this.takeOver();
      this.#publishing = true;
      await this.publishNext();
    } catch (error) {
      new Logger(this.constructor.name).error(error);
    } finally {
      this.#busy = false;
    }
  }
}
