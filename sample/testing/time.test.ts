import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { REALTIME_CLOCK, RealtimeService } from 'nestjs-realtime';
import { createTestClient, FaultyLink, ManualClock, type TestClient } from 'nestjs-realtime/testing';
import { AppModule } from './app.module.js';
import { tokenOf } from './tokens.js';

const SECOND = 1_000;

describe('an application whose clock the test moves', () => {
  let clock: ManualClock;
  let app: INestApplication;
  let client: TestClient | undefined;

  beforeEach(async () => {
    clock = new ManualClock();
    const module = await Test.createTestingModule({ imports: [AppModule] })
      .overrideProvider(REALTIME_CLOCK)
      .useValue(clock)
      .compile();
    app = module.createNestApplication({ logger: false });
    await app.listen(0, '127.0.0.1');
  });
  afterEach(async () => {
    client?.close();
    await app.close();
  });

  it('asks for a newer token in time, and goes on with it', async () => {
    let asked = 0;
    const token = (): Promise<string> => {
      asked++;
      return tokenOf('bob', clock.now() + 100 * SECOND);
    };
    client = await createTestClient(app, { token, channels: ['chat.lobby'] });
    clock.jump(85 * SECOND);
    await client.settle();
    expect(asked).toBe(2);
    clock.jump(45 * SECOND); // past the end of the first token, and 25 s more
    await app.get(RealtimeService).publish('chat.lobby', 'message', { text: 'still here' });
    expect(await client.next()).toMatchObject({ data: { text: 'still here' } });
  });

  it.each(['websocket', 'sse', 'long-polling'] as const)(
    'ends a connection over %s 25 s after its token',
    async (transport) => {
      const token = await tokenOf('bob', clock.now() + 100 * SECOND);
      client = await createTestClient(app, { transport, token, channels: ['chat.lobby'] });
      clock.jump(126 * SECOND);
      await expect(client.next()).rejects.toMatchObject({ code: 'token_expired' });
      expect(client.state).toBe('closed');
    },
  );

  it('tells a client that was away for longer than the history lasts that something is lost', async () => {
    const link = await FaultyLink.open(app);
    try {
      client = await createTestClient(app, { token: await tokenOf('bob'), through: link, channels: ['chat.lobby'] });
      link.cut();
      await client.reach('waiting');
      await app.get(RealtimeService).publish('chat.lobby', 'message', { text: 'never seen' });
      clock.jump(601 * SECOND);
      link.heal();
      expect(await client.next()).toMatchObject({ channel: 'chat.lobby', event: '$lost' });
    } finally {
      await link.close();
    }
  });

  it('finds a peer that is gone without a word', async () => {
    const link = await FaultyLink.open(app);
    try {
      client = await createTestClient(app, { token: await tokenOf('bob'), through: link, channels: ['chat.lobby'] });
      const realtime = app.get(RealtimeService);
      link.halfOpen();
      await clock.pass(60 * SECOND);
      expect(await realtime.connections({ userId: 'bob' })).toEqual([]);
      expect(client.state).toBe('open');
    } finally {
      await link.close();
    }
  });
});
