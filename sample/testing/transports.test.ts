import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { RealtimeService } from 'nestjs-realtime';
import { createTestClient, FaultyLink, type TestClient, type TestClientOptions } from 'nestjs-realtime/testing';
import { AppModule } from './app.module.js';
import { tokenOf } from './tokens.js';

let app: INestApplication;
beforeAll(async () => {
  const module = await Test.createTestingModule({ imports: [AppModule] }).compile();
  app = module.createNestApplication({ logger: false });
  await app.listen(0, '127.0.0.1');
});
afterAll(() => app.close());

const clients: TestClient[] = [];
afterEach(() => {
  for (const client of clients.splice(0)) client.close();
});

async function connect(user: string, options: TestClientOptions = {}): Promise<TestClient> {
  const client = await createTestClient(app, { token: await tokenOf(user), ...options });
  clients.push(client);
  return client;
}

const publish = (room: string, text: string): Promise<string> =>
  app.get(RealtimeService).publish(`chat.${room}`, 'message', { text, from: 'the house' });

describe.each(['websocket', 'sse', 'long-polling'] as const)('over %s', (transport) => {
  it('a client gets what is published, in order, and nothing else', async () => {
    const room = `lobby-${transport}`;
    const client = await connect('bob', { transport, channels: [`chat.${room}`] });
    await publish(room, 'one');
    await publish('elsewhere', 'not for bob');
    await publish(room, 'two');
    expect(await client.settle()).toEqual([
      { channel: `chat.${room}`, event: 'message', data: { text: 'one', from: 'the house' }, offset: 1 },
      { channel: `chat.${room}`, event: 'message', data: { text: 'two', from: 'the house' }, offset: 2 },
    ]);
    expect(client.transport).toBe(transport);
  });

  it('a guarded room lets in whom it should', async () => {
    await expect(connect('bob', { transport, channels: ['chat.staff'] })).rejects.toMatchObject({ code: 'forbidden' });
    await connect('ann', { transport, channels: ['chat.staff'] });
  });

  it('a client whose link is cut misses nothing', async () => {
    const room = `cut-${transport}`;
    const link = await FaultyLink.open(app);
    try {
      const client = await connect('bob', { transport, through: link, channels: [`chat.${room}`] });
      await publish(room, 'before');
      expect(await client.next()).toMatchObject({ data: { text: 'before' } });
      link.cut();
      await client.reach('waiting');
      await publish(room, 'meanwhile');
      link.heal();
      expect(await client.next('message')).toMatchObject({ data: { text: 'meanwhile' }, offset: 2 });
      expect(await client.next('$recovered')).toMatchObject({ data: { count: 1 } });
      expect(await client.settle()).toEqual([]);
    } finally {
      await link.close();
    }
  });
});

describe.each(['websocket', 'long-polling'] as const)('over %s, which has a way up', (transport) => {
  it('a handler answers, or refuses', async () => {
    const client = await connect('bob', { transport });
    await expect(client.request('greet', 'Bob')).resolves.toBe('Hello, Bob!');
    await expect(client.request('greet', '')).rejects.toMatchObject({ code: 'rejected', message: 'Whom?' });
  });

  it('a handler sends what nobody asked for', async () => {
    const client = await connect('bob', { transport });
    client.send('wave');
    expect(await client.settle()).toEqual([{ event: 'waved', data: 'bob' }]);
  });

  it('nobody speaks for somebody else', async () => {
    const channel = `chat.said-${transport}`;
    const bob = await connect('bob', { transport, channels: [channel] });
    const ann = await connect('ann');
    await ann.publish(channel, 'message', { text: 'hi', from: 'bob' });
    expect(await bob.next()).toMatchObject({ data: { text: 'hi', from: 'ann' } });
  });

  it('members are told of each other', async () => {
    const channel = `chat.met-${transport}`;
    const bob = await connect('bob', { transport });
    await bob.subscribe(channel, { presence: true });
    const ann = await connect('ann', { channels: [channel] });
    expect(await bob.next('$join')).toMatchObject({ channel, data: { id: 'ann' } });
    await ann.unsubscribe(channel);
    expect(await bob.next('$leave')).toMatchObject({ channel, data: { id: 'ann' } });
  });
});

it('who has no token is told so, before the connection', async () => {
  await expect(createTestClient(app, { transport: 'sse', channels: ['chat.lobby'] })).rejects.toMatchObject({
    code: 'unauthenticated',
  });
});
