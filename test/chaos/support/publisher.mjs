// A worker without HTTP that publishes: on every channel the numbers from 1 on, each with a key, each until it is known
// to be in the channel's log.
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { setTimeout as wait } from 'node:timers/promises';
import { RealtimeModule, RealtimeService } from 'nestjs-realtime';
import { obey, sharedOptions } from './child.mjs';

class WorkerModule {}
Module({ imports: [RealtimeModule.forRoot(sharedOptions())] })(WorkerModule);

const worker = await NestFactory.createApplicationContext(WorkerModule, { logger: ['error', 'fatal'] });
const realtime = worker.get(RealtimeService);

/** The last number of each channel that was acknowledged. */
const last = {};
/** How often a publication was refused, by the code of the error. */
const retries = {};
let running = false;
let streams = [];

/** Publications of one turn are applied together or not at all: they are tried again together, and stay in order. */
async function publish(channel, count) {
  const from = (last[channel] ?? 0) + 1;
  const numbers = Array.from({ length: count }, (_, i) => from + i);
  for (;;) {
    const outcomes = await Promise.allSettled(
      numbers.map((n) => realtime.publish(channel, 'tick', { channel, n }, { idempotencyKey: `${channel} ${n}` })),
    );
    const refused = outcomes.find(({ status }) => status === 'rejected')?.reason;
    if (refused === undefined) break;
    if (refused.code !== 'broker_unavailable' && refused.code !== 'outcome_unknown') throw refused;
    retries[refused.code] = (retries[refused.code] ?? 0) + 1;
  }
  last[channel] = from + count - 1;
}

async function stream(channel, everyMs) {
  for (let turn = 0; running; turn++) {
    await publish(channel, 1 + (turn % 3));
    await wait(everyMs * (0.5 + Math.random()));
  }
}

obey(true, {
  start: ({ channels, everyMs }) => {
    running = true;
    streams = channels.map((channel) => stream(channel, everyMs));
  },
  /** Answers the last number of each channel once all are acknowledged. */
  stop: async () => {
    running = false;
    await Promise.all(streams);
    return { last, retries };
  },
  publish: async ({ channels, count }) => {
    await Promise.all(channels.map((channel) => publish(channel, count)));
    return { last, retries };
  },
});
